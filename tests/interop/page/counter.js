// Reads the frame counter out of a picture of a bundled clip.
// The squares are described in crates/recording/clips/README.md.

/** How many frames the clip has before it begins again. */
export const ROUND = 900;

const SQUARES = 16;
const [TOP, BOTTOM] = [208 / 240, 240 / 240];

/** The counter in `pixels` (RGBA, `width` x `height`), or null where marker or check do not fit. */
export function readCounter(pixels, width, height) {
  let word = 0;
  for (let square = 0; square < SQUARES; square += 1) {
    word = (word << 1) | (isWhite(pixels, width, height, square) ? 1 : 0);
  }
  const value = (word >> 4) & 0x3ff;
  const expected = (value ^ (value >> 4) ^ (value >> 8) ^ 0b1010) & 0xf;
  return word >> 14 === 0b10 && (word & 0xf) === expected && value < ROUND ? value : null;
}

/** The middle half of a square decides: its edges blur. */
function isWhite(pixels, width, height, square) {
  const across = width / SQUARES;
  const down = height * (BOTTOM - TOP);
  const [left, top] = [Math.round((square + 0.25) * across), Math.round(height * TOP + down / 4)];
  const [right, bottom] = [left + Math.floor(across / 2), top + Math.floor(down / 2)];
  let sum = 0;
  for (let y = top; y < bottom; y += 1) {
    for (let x = left; x < right; x += 1) {
      const at = 4 * (y * width + x);
      sum += pixels[at] + pixels[at + 1] + pixels[at + 2];
    }
  }
  return sum > 3 * 128 * (right - left) * (bottom - top);
}
