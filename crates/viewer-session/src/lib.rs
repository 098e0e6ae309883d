//! Ports and driver: runs negotiation-core over pluggable signaling, peer and clock adapters.
