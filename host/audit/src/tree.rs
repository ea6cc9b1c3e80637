//! One site's Merkle tree: its size, and the hashes of the complete subtrees on its right edge.
//!
//! Appending needs no more than those, so nothing is read from the store while records are written.

use std::collections::BTreeMap;

use tlog_tiles::tlog::Error as TreeError;
use tlog_tiles::{Hash, HashReader};

/// The hashes that are known, by stored hash index.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(pub(crate) BTreeMap<u64, Hash>);

impl HashReader for Known {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, TreeError> {
        indexes.iter().map(|index| self.0.get(index).copied().ok_or(TreeError::IndexesNotInTree)).collect()
    }
}

/// The tree of one site, as of the last record submitted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    size: u64,
    edge: Known,
}

impl Tree {
    /// The tree of `size` records, with the hashes of its right edge.
    pub(crate) fn new(size: u64, edge: Known) -> Self {
        Self { size, edge }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The stored hash indexes of the right edge of a tree of `size` records.
    pub(crate) fn edge_of(size: u64) -> Vec<u64> {
        tlog_tiles::sub_tree_index(0, size, Vec::new())
    }

    /// Appends a record; answers the hashes that this adds, with their stored hash indexes.
    pub(crate) fn append(&mut self, record: &[u8]) -> Result<Vec<(u64, Hash)>, TreeError> {
        let first = tlog_tiles::stored_hash_index(0, self.size);
        let hashes = tlog_tiles::stored_hashes(self.size, record, &self.edge)?;
        let added: Vec<(u64, Hash)> = (first..).zip(hashes).collect();
        self.edge.0.extend(added.iter().copied());
        self.size = self.size.saturating_add(1);
        let keep = Self::edge_of(self.size);
        self.edge.0.retain(|index, _| keep.contains(index));
        Ok(added)
    }

    /// The hash of the whole tree.
    pub(crate) fn root(&self) -> Result<Hash, TreeError> {
        tlog_tiles::tree_hash(self.size, &self.edge)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The definition in RFC 9162, section 2.1.1.
    fn definition(records: &[Vec<u8>]) -> Hash {
        match records {
            [one] => tlog_tiles::record_hash(one),
            _ => {
                let k = records.len().next_power_of_two() / 2;
                let (left, right) = records.split_at(k);
                tlog_tiles::node_hash(definition(left), definition(right))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_9162_at_every_size() {
        let mut tree = Tree::default();
        let mut records = Vec::new();
        for i in 0..130_u32 {
            let record = format!("record {i}").into_bytes();
            tree.append(&record).unwrap();
            records.push(record);
            assert_eq!(tree.root().unwrap(), definition(&records), "size {}", i + 1);
            assert!(tree.edge.0.len() <= 8);
        }
    }
}
