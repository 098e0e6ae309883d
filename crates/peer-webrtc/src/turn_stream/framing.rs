//! TURN messages in a datagram and in a stream. Pure functions, defined for any input.
//!
//! STUN messages are the same in both; ChannelData is padded to four bytes in a stream and need
//! not be in a datagram (RFC 8656, 12.4).

/// A STUN header: type, length, magic cookie, transaction id (RFC 8489, 5).
const STUN_HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// A ChannelData header: channel number, length (RFC 8656, 12.4).
const CHANNEL_HEADER: usize = 4;
const ALLOCATE_REQUEST: [u8; 2] = [0x00, 0x03];

/// The longest datagram over loopback.
pub(super) const DATAGRAM_MAX: usize = 65_507;

/// The first message of a stream's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The length of the message in a datagram.
    pub(super) datagram: usize,
    /// The number of bytes that the message takes in the stream.
    pub(super) in_stream: usize,
}

/// Returns whether a datagram requests an allocation, which opens a stream.
pub(super) fn is_allocate(datagram: &[u8]) -> bool {
    datagram.starts_with(&ALLOCATE_REQUEST) && measure(datagram).is_ok_and(|found| found.is_some())
}

/// Converts a datagram for a stream: returns its message and the number of padding bytes. `None`
/// if it holds no complete TURN message.
pub(super) fn to_stream(datagram: &[u8]) -> Option<(&[u8], usize)> {
    let message = measure(datagram).ok().flatten()?;
    let bytes = datagram.get(..message.datagram)?;
    Some((bytes, message.in_stream - message.datagram))
}

/// Returns the first message of a stream; `None` while its header is incomplete.
///
/// # Errors
/// The bytes are not TURN, and the start of the next message is unknown.
pub(super) fn measure(bytes: &[u8]) -> Result<Option<Message>, NotTurn> {
    let Some(&[first, _, high, low]) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let message = match first {
        0x00..=0x3f => {
            let Some(cookie) = bytes.get(4..8) else { return Ok(None) };
            if cookie != MAGIC_COOKIE || length % 4 != 0 {
                return Err(NotTurn);
            }
            let all = STUN_HEADER + length;
            Message { datagram: all, in_stream: all }
        }
        0x40..=0x4f => {
            let all = CHANNEL_HEADER + length;
            Message { datagram: all, in_stream: all.next_multiple_of(4) }
        }
        0x50..=0xff => return Err(NotTurn),
    };
    if message.datagram > DATAGRAM_MAX { Err(NotTurn) } else { Ok(Some(message)) }
}

/// The bytes are not TURN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotTurn;

#[cfg(test)]
mod tests {
    use super::*;

    fn stun(kind: [u8; 2], body: usize) -> Vec<u8> {
        let length = u16::try_from(body).expect("short").to_be_bytes();
        let mut bytes = [&kind[..], &length, &MAGIC_COOKIE, &[7; 12]].concat();
        bytes.resize(STUN_HEADER + body, 9);
        bytes
    }

    fn channel(body: usize) -> Vec<u8> {
        let length = u16::try_from(body).expect("short").to_be_bytes();
        let mut bytes = [&[0x40, 0x01][..], &length].concat();
        bytes.resize(CHANNEL_HEADER + body, 5);
        bytes
    }

    #[test]
    fn stun_is_unchanged_in_stream() {
        let request = stun(ALLOCATE_REQUEST, 36);
        assert!(is_allocate(&request));
        assert_eq!(to_stream(&request), Some((&request[..], 0)));
        assert!(!is_allocate(&stun([0x00, 0x01], 0)), "a binding request opens nothing");
    }

    #[test]
    fn channel_data_is_padded_only_in_stream() {
        for (body, padding) in [(0, 0), (1, 3), (2, 2), (3, 1), (4, 0), (1201, 3)] {
            let data = channel(body);
            assert_eq!(to_stream(&data), Some((&data[..], padding)), "{body}");
            // A padded datagram loses only its padding.
            let padded = [&data[..], &[0; 3][..padding]].concat();
            assert_eq!(to_stream(&padded).map(|(bytes, _)| bytes), Some(&data[..]));
            let found = measure(&padded).expect("TURN").expect("whole");
            assert_eq!((found.datagram, found.in_stream), (data.len(), padded.len()));
        }
    }

    #[test]
    fn incomplete_message_waits_and_non_turn_is_refused() {
        let message = stun([0x01, 0x03], 8);
        for cut in 0..8 {
            assert_eq!(measure(&message[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(to_stream(&message[..message.len() - 1]), None);
        for other in [&b"SSH-2.0-x"[..], &[0x50, 0, 0, 0], &[0xff; 30], &[0; 30]] {
            assert_eq!(measure(other), Err(NotTurn), "{other:?}");
        }
        let mut odd = stun([0x01, 0x03], 8);
        odd[3] = 7;
        assert_eq!(measure(&odd), Err(NotTurn));
        assert_eq!(measure(&[0x40, 0, 0xff, 0xff]), Err(NotTurn), "longer than any datagram");
    }
}
