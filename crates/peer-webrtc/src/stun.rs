//! The parts of STUN and TURN messages that the datagram filters read (RFC 8489, RFC 8656).

pub(crate) const BINDING_REQUEST: u16 = 0x0001;
pub(crate) const BINDING_SUCCESS: u16 = 0x0101;
pub(crate) const ALLOCATE_REQUEST: u16 = 0x0003;
pub(crate) const SEND_INDICATION: u16 = 0x0016;
pub(crate) const DATA_INDICATION: u16 = 0x0017;

pub(crate) const USERNAME: u16 = 0x0006;
pub(crate) const XOR_PEER_ADDRESS: u16 = 0x0012;
pub(crate) const DATA: u16 = 0x0013;
pub(crate) const USE_CANDIDATE: u16 = 0x0025;

/// The magic cookie (RFC 8489, 5).
pub(crate) const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// The length in bytes of type, length, magic cookie and transaction id.
pub(crate) const HEADER: usize = 20;

/// Returns the value of a message's first attribute of this type.
pub(crate) fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(HEADER..)?;
    while let [type_high, type_low, length_high, length_low, value @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        if u16::from_be_bytes([*type_high, *type_low]) == wanted {
            return value.get(..length);
        }
        // Values are padded to four bytes.
        rest = value.get(length.next_multiple_of(4)..)?;
    }
    None
}
