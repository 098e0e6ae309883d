#!/usr/bin/env python3
"""AWS's own Python SDK against the emulator: the control plane, and ICE servers.

Exit code 0 when everything was as AWS would have it, 1 when not; each finding is a line.

    boto3_control_plane.py --endpoint-url http://127.0.0.1:4700 \
        --access-key ID --secret-key KEY [--session-token TOKEN] [--ca-file PEM] [--expect-turn]

The secret half may come from the environment instead: AWS_SECRET_ACCESS_KEY and
AWS_SESSION_TOKEN. Needs boto3.
"""

import argparse
import os
import sys
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

failures = 0


def check(what, good, seen=""):
    """Prints one finding."""
    global failures
    if not good:
        failures += 1
    print(f"{'ok  ' if good else 'FAIL'} {what}" + ("" if good else f": {seen!r}"))


def refused(what, call, code, status, text=""):
    """The call must fail with this error."""
    try:
        check(what, False, call())
    except ClientError as error:
        seen = error.response
        check(
            what,
            seen["Error"]["Code"] == code
            and seen["ResponseMetadata"]["HTTPStatusCode"] == status
            and text in seen["Error"]["Message"]
            and "date" in seen["ResponseMetadata"]["HTTPHeaders"],
            seen,
        )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoint-url", required=True)
    parser.add_argument("--region", default="us-west-2")
    parser.add_argument("--access-key", default=os.environ.get("AWS_ACCESS_KEY_ID"))
    parser.add_argument("--secret-key", default=os.environ.get("AWS_SECRET_ACCESS_KEY"))
    parser.add_argument("--session-token", default=os.environ.get("AWS_SESSION_TOKEN"))
    parser.add_argument("--ca-file")
    parser.add_argument("--expect-turn", action="store_true")
    return parser.parse_args()


def main():
    args = arguments()

    def client(service, endpoint=args.endpoint_url, **changes):
        settings = {
            "region_name": args.region,
            "aws_access_key_id": args.access_key,
            "aws_secret_access_key": args.secret_key,
            "aws_session_token": args.session_token or None,
            "config": Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5),
            "verify": args.ca_file,
        }
        return boto3.client(service, endpoint_url=endpoint, **{**settings, **changes})

    video = client("kinesisvideo")
    name = f"boto3-{uuid.uuid4().hex[:12]}"

    refused(
        "an unknown channel is not found",
        lambda: video.describe_signaling_channel(ChannelName=name),
        "ResourceNotFoundException",
        404,
    )
    arn = video.create_signaling_channel(
        ChannelName=name,
        ChannelType="SINGLE_MASTER",
        SingleMasterConfiguration={"MessageTtlSeconds": 30},
        Tags=[{"Key": "of", "Value": "a test"}],
    )["ChannelARN"]
    check("create gives an ARN", f":channel/{name}/" in arn, arn)
    refused(
        "a name that is taken is refused",
        lambda: video.create_signaling_channel(ChannelName=name),
        "ResourceInUseException",
        400,
    )

    info = video.describe_signaling_channel(ChannelName=name)["ChannelInfo"]
    check("describe by name finds it", info["ChannelARN"] == arn, info)
    check("it is active", info["ChannelStatus"] == "ACTIVE", info)
    ttl = info["SingleMasterConfiguration"]["MessageTtlSeconds"]
    check("its message TTL is the one asked for", ttl == 30, info)
    check("its creation time is a time", info["CreationTime"].year > 2000, info)
    again = video.describe_signaling_channel(ChannelARN=arn)["ChannelInfo"]
    check("describe by ARN says the same", again == info, again)

    pages = video.get_paginator("list_signaling_channels").paginate(
        ChannelNameCondition={"ComparisonOperator": "BEGINS_WITH", "ComparisonValue": name},
        PaginationConfig={"PageSize": 1},
    )
    listed = [entry["ChannelName"] for page in pages for entry in page["ChannelInfoList"]]
    check("list finds it by its beginning", listed == [name], listed)

    for role in ("MASTER", "VIEWER"):
        endpoints = video.get_signaling_channel_endpoint(
            ChannelARN=arn,
            SingleMasterChannelEndpointConfiguration={"Protocols": ["WSS", "HTTPS"], "Role": role},
        )["ResourceEndpointList"]
        by_protocol = {entry["Protocol"]: entry["ResourceEndpoint"] for entry in endpoints}
        check(f"endpoints for {role}", set(by_protocol) == {"WSS", "HTTPS"}, endpoints)
        check(f"a socket for {role}", by_protocol["WSS"].startswith("ws"), endpoints)
    refused(
        "no WEBRTC endpoint without media storage",
        lambda: video.get_signaling_channel_endpoint(
            ChannelARN=arn,
            SingleMasterChannelEndpointConfiguration={"Protocols": ["WEBRTC"], "Role": "VIEWER"},
        ),
        "InvalidArgumentException",
        400,
    )

    storage = video.describe_media_storage_configuration(ChannelName=name)
    status = storage["MediaStorageConfiguration"]["Status"]
    check("media storage is off", status == "DISABLED", storage)

    signaling = client("kinesis-video-signaling", by_protocol["HTTPS"])
    servers = signaling.get_ice_server_config(ChannelARN=arn, ClientId="boto3")["IceServerList"]
    if args.expect_turn:
        complete = all(
            entry["Uris"] and entry["Username"] and entry["Password"] and entry["Ttl"] >= 30
            for entry in servers
        )
        check("ICE servers are complete", bool(servers) and complete, len(servers))
    else:
        check("ICE servers are a list", isinstance(servers, list), type(servers))

    wrong_secret = client("kinesisvideo", aws_secret_access_key="wrong")
    refused(
        "a wrong secret is refused",
        lambda: wrong_secret.describe_signaling_channel(ChannelName=name),
        "InvalidSignatureException",
        403,
        "does not match",
    )
    refused(
        "a wrong secret gets no ICE servers",
        lambda: client(
            "kinesis-video-signaling", by_protocol["HTTPS"], aws_secret_access_key="wrong"
        ).get_ice_server_config(ChannelARN=arn),
        "InvalidSignatureException",
        403,
    )
    refused(
        "an unknown access key is refused",
        lambda: client("kinesisvideo", aws_access_key_id="AKIANOBODY").list_signaling_channels(),
        "UnrecognizedClientException",
        403,
    )
    refused(
        "a wrong session token is refused",
        lambda: client("kinesisvideo", aws_session_token="wrong+/=%").list_signaling_channels(),
        "UnrecognizedClientException",
        403,
    )
    refused(
        "another region is refused",
        lambda: client("kinesisvideo", region_name="eu-west-1").list_signaling_channels(),
        "InvalidSignatureException",
        403,
    )

    refused(
        "a version that is not the latest is refused",
        lambda: video.delete_signaling_channel(ChannelARN=arn, CurrentVersion="0"),
        "VersionMismatchException",
        400,
    )
    video.delete_signaling_channel(ChannelARN=arn, CurrentVersion=info["Version"])
    refused(
        "what was deleted is gone",
        lambda: video.describe_signaling_channel(ChannelARN=arn),
        "ResourceNotFoundException",
        404,
    )

    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
