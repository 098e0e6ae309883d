//! A deterministic world for negotiation-core: virtual clock, model peer, model KVS service and masters, faults as data.
