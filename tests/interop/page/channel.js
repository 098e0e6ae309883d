// What both roles need of AWS's JavaScript SDKs: the channel's endpoints, its ICE servers, its socket.

import {
  DescribeSignalingChannelCommand,
  GetSignalingChannelEndpointCommand,
  KinesisVideoClient,
} from '@aws-sdk/client-kinesis-video';
import {
  GetIceServerConfigCommand,
  KinesisVideoSignalingClient,
} from '@aws-sdk/client-kinesis-video-signaling';
// The script that AWS ships for pages leaves a global; the package's other entry is for Node.js.
import 'amazon-kinesis-video-streams-webrtc/dist/kvs-webrtc.js';

const { SignalingClient } = window.KVSWebRTC;
const TRIES = { maxAttempts: 1 };

/** Finds the channel by its name or ARN and makes a client of its socket, which is not open yet. */
export async function join({ role, clientId, channel, region, endpointUrl, credentials }) {
  const common = { region, credentials, ...TRIES };
  const video = new KinesisVideoClient({ ...common, endpoint: endpointUrl });
  const channelARN = channel.startsWith('arn:') ? channel : await findArn(video, channel);
  const { ResourceEndpointList } = await video.send(
    new GetSignalingChannelEndpointCommand({
      ChannelARN: channelARN,
      SingleMasterChannelEndpointConfiguration: { Protocols: ['WSS', 'HTTPS'], Role: role },
    }),
  );
  const endpoints = Object.fromEntries(
    ResourceEndpointList.map(({ Protocol, ResourceEndpoint }) => [Protocol, ResourceEndpoint]),
  );
  const signaling = new KinesisVideoSignalingClient({ ...common, endpoint: endpoints.HTTPS });
  const { IceServerList } = await signaling.send(
    new GetIceServerConfigCommand({ ChannelARN: channelARN }),
  );
  // The region's STUN server is left out: it is not on this machine.
  const iceServers = (IceServerList ?? []).map(({ Uris, Username, Password }) => ({
    urls: Uris,
    username: Username,
    credential: Password,
  }));
  const client = new SignalingClient({
    role,
    clientId,
    channelARN,
    channelEndpoint: endpoints.WSS,
    region,
    credentials,
  });
  return { client, configuration: { iceServers, iceTransportPolicy: 'all' } };
}

async function findArn(video, channel) {
  const { ChannelInfo } = await video.send(
    new DescribeSignalingChannelCommand({ ChannelName: channel }),
  );
  return ChannelInfo.ChannelARN;
}

/** Tells the other side of every candidate as it is found. */
export function trickle(peer, client, recipient) {
  peer.addEventListener('icecandidate', ({ candidate }) => {
    if (candidate) client.sendIceCandidate(candidate, recipient);
  });
}
