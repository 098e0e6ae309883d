// A viewer as a page makes it with AWS's JavaScript SDK. It plays what it gets and looks at it.

import { join, trickle } from './channel.js';
import { readCounter, ROUND } from './counter.js';

const [WIDTH, HEIGHT] = [320, 240];

/** Plays until the picture's counter has gone on by `advance`, and says what was seen. */
export async function viewer(settings, report) {
  const { client, configuration } = await join({ ...settings, role: 'VIEWER' });
  const peer = new RTCPeerConnection(configuration);
  const video = document.createElement('video');
  Object.assign(video, { autoplay: true, playsInline: true, srcObject: new MediaStream() });
  document.body.append(video);
  peer.addEventListener('track', ({ track }) => video.srcObject.addTrack(track));
  peer.addEventListener('connectionstatechange', () =>
    report({ event: 'connection', state: peer.connectionState }),
  );
  trickle(peer, client);
  peer.addTransceiver('video', { direction: 'recvonly' });
  peer.addTransceiver('audio', { direction: 'recvonly' });

  client.on('sdpAnswer', (answer) => {
    report({ event: 'answered' });
    peer.setRemoteDescription(answer).catch((error) => report({ event: 'error', text: `${error}` }));
  });
  client.on('iceCandidate', (candidate) =>
    peer.addIceCandidate(candidate).catch((error) =>
      report({ event: 'candidate_refused', text: `${error}` }),
    ),
  );
  client.on('statusResponse', (status) => report({ event: 'status', status }));
  client.on('error', (error) => report({ event: 'error', text: `signaling: ${error}` }));
  client.on('open', async () => {
    report({ event: 'ready' });
    await peer.setLocalDescription(await peer.createOffer());
    client.sendSdpOffer(peer.localDescription);
  });
  client.open();

  const seen = await look(video, settings.advance, settings.counter);
  const played = { event: 'played', ...seen, ...(await received(peer)) };
  peer.close();
  client.close();
  report(played);
}

/** Looks at each picture as it is shown. */
function look(video, advance, hasCounter) {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width: WIDTH, height: HEIGHT });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  const seen = {
    pictures: 0,
    blank: 0,
    unreadable: 0,
    repeated: 0,
    backwards: 0,
    advanced: 0,
    first: null,
    last: null,
  };
  return new Promise((resolve) => {
    const onPicture = () => {
      seen.pictures += 1;
      if (hasCounter) {
        context.drawImage(video, 0, 0, WIDTH, HEIGHT);
        count(seen, readCounter(context.getImageData(0, 0, WIDTH, HEIGHT).data, WIDTH, HEIGHT));
      } else {
        seen.advanced = seen.pictures;
      }
      if (seen.advanced < advance) video.requestVideoFrameCallback(onPicture);
      else resolve({ ...seen, width: video.videoWidth, height: video.videoHeight });
    };
    video.requestVideoFrameCallback(onPicture);
  });
}

/** The counter goes round, so a step is forward if it is the shorter way round. */
function count(seen, value) {
  if (value === null) {
    // Before its first picture a video may be drawn as nothing.
    seen[seen.first === null ? 'blank' : 'unreadable'] += 1;
    return;
  }
  seen.first ??= value;
  const step = (value - (seen.last ?? value) + ROUND) % ROUND;
  if (step > ROUND / 2) seen.backwards += 1;
  else seen.advanced += step;
  if (step === 0 && seen.last !== null) seen.repeated += 1;
  seen.last = value;
}

/** What the browser's own statistics say was received. */
async function received(peer) {
  const reports = [...(await peer.getStats()).values()];
  const codec = (id) => reports.find((entry) => entry.id === id)?.mimeType ?? null;
  const inbound = (kind) => reports.find((entry) => entry.type === 'inbound-rtp' && entry.kind === kind);
  const [video, audio] = [inbound('video'), inbound('audio')];
  return {
    video_codec: codec(video?.codecId),
    frames_decoded: video?.framesDecoded ?? 0,
    audio_codec: codec(audio?.codecId),
    audio_packets: audio?.packetsReceived ?? 0,
    audio_energy: audio?.totalAudioEnergy ?? 0,
  };
}
