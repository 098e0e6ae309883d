// A master as a page makes it with AWS's JavaScript SDK: the browser's camera for every viewer.

import { join, trickle } from './channel.js';

export async function master(settings, report) {
  const media = await navigator.mediaDevices.getUserMedia({
    video: { width: 640, height: 480, frameRate: 20 },
    audio: true,
  });
  const { client, configuration } = await join({ ...settings, role: 'MASTER' });
  const peers = new Map();
  client.on('sdpOffer', async (offer, viewer) => {
    try {
      // An id that offers again has begun anew.
      peers.get(viewer)?.close();
      const peer = new RTCPeerConnection(configuration);
      peers.set(viewer, peer);
      peer.addEventListener('connectionstatechange', () =>
        report({ event: 'connection', viewer, state: peer.connectionState }),
      );
      trickle(peer, client, viewer);
      for (const track of media.getTracks()) peer.addTrack(track, media);
      await peer.setRemoteDescription(offer);
      await peer.setLocalDescription(await peer.createAnswer());
      client.sendSdpAnswer(peer.localDescription, viewer);
      report({ event: 'answered', viewer });
    } catch (error) {
      report({ event: 'error', text: `the offer of ${viewer}: ${error}` });
    }
  });
  client.on('iceCandidate', (candidate, viewer) => {
    const added = peers.get(viewer)?.addIceCandidate(candidate);
    added?.catch((error) => report({ event: 'candidate_refused', viewer, text: `${error}` }));
  });
  client.on('statusResponse', (status) => report({ event: 'status', status }));
  client.on('close', () => report({ event: 'signaling_closed' }));
  client.on('error', (error) => report({ event: 'error', text: `signaling: ${error}` }));
  client.on('open', () => report({ event: 'ready' }));
  client.open();
}
