//! The known parameter sets of a stream, by their ids.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::syntax::{Pps, Sps};
use super::{NAL_PPS, NAL_SPS, nal_type};
use crate::frame::ParameterSets;

/// The largest parameter set that is kept; those of real encoders have less than 100 bytes.
const SET_BYTES_MAX: usize = 4096;

/// Stores the parameter sets of a stream. The ids limit it to 32 SPS and 256 PPS.
#[derive(Debug, Default)]
pub(super) struct SetStore {
    sps: BTreeMap<u8, (Bytes, Sps)>,
    pps: BTreeMap<u8, (Bytes, Pps)>,
}

impl SetStore {
    /// Stores a set, replacing one with the same id. An unreadable one is ignored.
    pub(super) fn insert(&mut self, unit: &Bytes) {
        if unit.len() > SET_BYTES_MAX {
            return;
        }
        match nal_type(unit) {
            NAL_SPS => {
                if let Some(sps) = Sps::parse(unit) {
                    self.sps.insert(sps.id, (own(unit), sps));
                }
            }
            NAL_PPS => {
                if let Some(pps) = Pps::parse(unit) {
                    self.pps.insert(pps.id, (own(unit), pps));
                }
            }
            _ => {}
        }
    }

    /// Stores a set from outside the stream, unless the stream has a set with this id.
    pub(super) fn insert_absent(&mut self, unit: &Bytes) {
        let known = match nal_type(unit) {
            NAL_SPS => Sps::parse(unit).is_none_or(|sps| self.sps.contains_key(&sps.id)),
            NAL_PPS => Pps::parse(unit).is_none_or(|pps| self.pps.contains_key(&pps.id)),
            _ => true,
        };
        if !known {
            self.insert(unit);
        }
    }

    pub(super) fn get(&self, pps: u8) -> Option<(Sps, Pps)> {
        let (_, pps) = self.pps.get(&pps)?;
        let (_, sps) = self.sps.get(&pps.sps)?;
        Some((*sps, *pps))
    }

    /// Returns the sets to which a picture with this picture parameter set refers.
    pub(super) fn referenced(&self, pps: u8) -> Option<ParameterSets> {
        let (pps_unit, pps) = self.pps.get(&pps)?;
        let (sps_unit, _) = self.sps.get(&pps.sps)?;
        Some(ParameterSets { sps: sps_unit.clone(), pps: pps_unit.clone() })
    }

    /// Returns all usable sets, in the order in which a decoder needs them.
    pub(super) fn units(&self) -> impl Iterator<Item = &Bytes> + Clone {
        let usable = |(_, pps): &&(Bytes, Pps)| self.sps.contains_key(&pps.sps);
        let sps = self.sps.values().map(|(unit, _)| unit);
        sps.chain(self.pps.values().filter(usable).map(|(unit, _)| unit))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sps.is_empty() || self.pps.is_empty()
    }
}

/// Copies a set, so that a small set does not keep a large packet in memory.
fn own(unit: &Bytes) -> Bytes {
    Bytes::copy_from_slice(unit)
}
