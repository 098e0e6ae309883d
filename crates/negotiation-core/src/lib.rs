//! The sans-IO negotiation core of a KVS WebRTC viewer session: live, or ended with a reason.
