// A viewer as a page makes it with AWS's JavaScript SDK, timed until its first picture.

import { join, trickle } from './channel.js';

const since = (begun) => Math.round((performance.now() - begun) * 10) / 10;

/** Starts a session and says when the offer went, the answer came and the first picture was shown. */
export async function start(settings, report) {
  const begun = performance.now();
  const { client, configuration } = await join({ ...settings, role: 'VIEWER' });
  const peer = new RTCPeerConnection(configuration);
  const video = document.createElement('video');
  Object.assign(video, { autoplay: true, playsInline: true, srcObject: new MediaStream() });
  document.body.append(video);
  const shown = new Promise((resolve) => video.requestVideoFrameCallback(() => resolve(since(begun))));
  peer.addEventListener('track', ({ track }) => video.srcObject.addTrack(track));
  trickle(peer, client);
  peer.addTransceiver('video', { direction: 'recvonly' });
  peer.addTransceiver('audio', { direction: 'recvonly' });

  const seen = {};
  const failed = (error) => report({ event: 'error', text: `${error}` });
  client.on('sdpAnswer', (answer) => {
    seen.answer_ms ??= since(begun);
    peer.setRemoteDescription(answer).catch(failed);
  });
  client.on('iceCandidate', (candidate) => peer.addIceCandidate(candidate).catch(() => {}));
  client.on('error', failed);
  client.on('open', async () => {
    try {
      await peer.setLocalDescription(await peer.createOffer());
      client.sendSdpOffer(peer.localDescription);
      seen.offer_ms ??= since(begun);
    } catch (error) {
      failed(error);
    }
  });
  client.open();

  const picture = await shown;
  await report({
    event: 'picture',
    ...seen,
    picture_ms: picture,
    // Time in a page counts from the beginning of navigation.
    navigation_ms: Math.round((begun + picture) * 10) / 10,
  });
  peer.close();
  client.close();
}
