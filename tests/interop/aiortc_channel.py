"""A KVS signaling channel for the aiortc peers: calls and presigned URL by botocore, one WebSocket.

Apart from the product: nothing here knows its code. Credentials come from the environment, as
botocore reads them.
"""

import base64
import json
import ssl
from urllib.parse import urlsplit

import botocore.session
import websockets
from aiortc import RTCConfiguration, RTCIceServer
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest


def add_arguments(parser):
    """The options that master and viewer share."""
    parser.add_argument("--endpoint-url", required=True)
    parser.add_argument("--region", default="us-west-2")
    parser.add_argument("--channel", required=True, help="name or ARN")
    parser.add_argument("--ca-file")


class Channel:
    """One side of a channel; `client_id` is None for the master."""

    def __init__(self, options, client_id=None):
        self.session = botocore.session.get_session()
        self.region = options.region
        self.client_id = client_id
        self.ca_file = options.ca_file
        verify = {"verify": options.ca_file} if options.ca_file else {}
        video = self.session.create_client("kinesisvideo", options.region, endpoint_url=options.endpoint_url, **verify)
        self.arn = options.channel
        if not self.arn.startswith("arn:"):
            described = video.describe_signaling_channel(ChannelName=options.channel)
            self.arn = described["ChannelInfo"]["ChannelARN"]
        wanted = {"Protocols": ["WSS", "HTTPS"], "Role": "VIEWER" if client_id else "MASTER"}
        found = video.get_signaling_channel_endpoint(
            ChannelARN=self.arn, SingleMasterChannelEndpointConfiguration=wanted
        )
        endpoints = {item["Protocol"]: item["ResourceEndpoint"] for item in found["ResourceEndpointList"]}
        self.wss = endpoints["WSS"]
        self.signaling = self.session.create_client(
            "kinesis-video-signaling", options.region, endpoint_url=endpoints["HTTPS"], **verify
        )

    def configuration(self):
        """What aiortc makes of the ICE servers; it takes one TURN server over UDP."""
        found = self.signaling.get_ice_server_config(ChannelARN=self.arn, Service="TURN")
        servers = [
            RTCIceServer(urls=server["Uris"], username=server["Username"], credential=server["Password"])
            for server in found["IceServerList"]
        ]
        return RTCConfiguration(iceServers=servers)

    def connect(self):
        """The WebSocket, to be entered with `async with`."""
        endpoint = urlsplit(self.wss)
        parameters = {"X-Amz-ChannelARN": self.arn}
        if self.client_id:
            parameters["X-Amz-ClientId"] = self.client_id
        url = f"{endpoint.scheme}://{endpoint.netloc}{endpoint.path or '/'}"
        request = AWSRequest(method="GET", url=url, params=parameters)
        SigV4QueryAuth(self.session.get_credentials(), "kinesisvideo", self.region, 299).add_auth(request)
        tls = ssl.create_default_context(cafile=self.ca_file) if endpoint.scheme == "wss" else None
        return websockets.connect(request.prepare().url, ssl=tls, max_size=None)


def message(action, body, recipient=None):
    """A frame for the service."""
    payload = base64.b64encode(json.dumps(body).encode()).decode()
    frame = {"action": action, "messagePayload": payload}
    if recipient is not None:
        frame["recipientClientId"] = recipient
    return json.dumps(frame)


def read(frame):
    """Type, sender and body of a frame from the service; type None when it is no message."""
    try:
        envelope = json.loads(frame)
        kind = envelope["messageType"]
        payload = envelope.get("messagePayload")
        body = json.loads(base64.b64decode(payload)) if payload else None
    except (ValueError, KeyError, TypeError):
        return None, None, None
    return kind, envelope.get("senderClientId"), body


def say(event, **fields):
    """One line of JSON on standard output."""
    print(json.dumps({"event": event, **fields}), flush=True)
