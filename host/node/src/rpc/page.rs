//! Pages of long answers: ranges with a limit and a bookmark, and the next or previous page around a transaction.

use cvp_core::types::Height;
use serde::Serialize;

use super::error::RpcError;
use super::params::{self, Fields};

/// Items of a page when the request names no size, and at most.
pub const PAGE_ITEMS_MAX: u64 = 5_000;
/// JSON of a page, at most; the first item goes in whatever its size. Bytes.
pub const PAGE_BYTES_MAX: usize = 8 << 20;
/// Blocks one request may walk through.
pub const SCAN_BLOCKS_MAX: u64 = 20_000;

/// A page of items and whether more follow in its direction.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// Whether the range holds more.
    pub hasmore: bool,
    /// The items.
    pub data: Vec<T>,
}

/// What `metadata` asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Items at most.
    pub size: usize,
    /// Begin behind this (height, index).
    pub bookmark: Option<(Height, u32)>,
    /// Oldest first; otherwise newest first.
    pub oldest_first: bool,
}

impl Wanted {
    /// Reads `metadata` (also `metaData`, and gosdk's `matadata`) of a request.
    pub fn read(fields: Fields<'_>) -> Result<Self, RpcError> {
        let metadata = match fields.fields("metadata")? {
            None => fields.fields("matadata")?,
            found => found,
        };
        let Some(metadata) = metadata else {
            return Ok(Self {
                size: PAGE_ITEMS_MAX as usize,
                bookmark: None,
                oldest_first: false,
            });
        };
        let size = metadata.quantity_or("pagesize", PAGE_ITEMS_MAX)?;
        if size > PAGE_ITEMS_MAX {
            return Err(RpcError::params(format!(
                "pageSize {size} is too large: at most {PAGE_ITEMS_MAX}"
            )));
        }
        let size = if size == 0 { PAGE_ITEMS_MAX } else { size };
        let bookmark = match metadata.fields("bookmark")? {
            None => None,
            Some(bookmark) => match bookmark.quantity_or("blkNum", 0)? {
                0 => None,
                height => Some((height, index(bookmark.quantity_or("txIndex", 0)?)?)),
            },
        };
        Ok(Self {
            size: size as usize,
            bookmark,
            oldest_first: metadata.flag("backward")?,
        })
    }
}

/// A transaction's index as parameters carry it.
pub fn index(value: u64) -> Result<u32, RpcError> {
    u32::try_from(value).map_err(|_| RpcError::params(format!("transaction index {value} is too large")))
}

/// Members `from` and `to`: heights up to `latest`, in order.
pub fn range(fields: Fields<'_>, latest: Height) -> Result<(Height, Height), RpcError> {
    let from = params::height(fields.required("from")?, latest)?;
    let to = params::height(fields.required("to")?, latest)?;
    if from > to {
        return Err(RpcError::params(format!(
            "invalid block number range: from {from} is larger than to {to}"
        )));
    }
    Ok((from, to))
}

/// Refuses a walk through more than [`SCAN_BLOCKS_MAX`] blocks.
pub fn check_scan(from: Height, to: Height) -> Result<(), RpcError> {
    let blocks = to.saturating_sub(from).saturating_add(1);
    if blocks > SCAN_BLOCKS_MAX {
        return Err(RpcError::params(format!(
            "the range has {blocks} blocks, at most {SCAN_BLOCKS_MAX} are searched at once"
        )));
    }
    Ok(())
}

/// Heights `from..=to` in the wanted direction.
pub fn heights(from: Height, to: Height, oldest_first: bool) -> Box<dyn Iterator<Item = Height>> {
    if oldest_first {
        Box::new(from..=to)
    } else {
        Box::new((from..=to).rev())
    }
}

/// Collects items until the page is full by count or bytes.
pub struct Filling<T> {
    size: usize,
    bytes: usize,
    page: Page<T>,
}

impl<T: Serialize> Filling<T> {
    /// An empty page of at most `size` items.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            bytes: 0,
            page: Page {
                hasmore: false,
                data: Vec::new(),
            },
        }
    }

    /// Adds an item of about `bytes` bytes of JSON; false (and `hasmore`) when it does not fit any more.
    pub fn push(&mut self, item: T, bytes: usize) -> bool {
        let fits = self.page.data.len() < self.size
            && (self.page.data.is_empty() || self.bytes.saturating_add(bytes) <= PAGE_BYTES_MAX);
        if fits {
            self.bytes = self.bytes.saturating_add(bytes);
            self.page.data.push(item);
        } else {
            self.page.hasmore = true;
        }
        fits
    }

    /// The page.
    pub fn finish(self) -> Page<T> {
        self.page
    }

    /// The items, or a refusal that names the paged method when they did not fit.
    pub fn whole(self, paged: &str) -> Result<Vec<T>, RpcError> {
        if self.page.hasmore {
            return Err(RpcError::params(format!("the answer is too large; use {paged}")));
        }
        Ok(self.page.data)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::params::Params;
    use super::*;

    #[test]
    fn metadata_is_read_under_each_clients_spelling() {
        for name in ["metadata", "metaData", "matadata"] {
            let params = Params::new(vec![
                json!({name: {"pageSize": 2, "bookmark": {"blkNum": 7, "txIndex": 1}, "backward": true}}),
            ]);
            let wanted = Wanted::read(params.fields(0).unwrap()).unwrap();
            assert_eq!(
                (wanted.size, wanted.bookmark, wanted.oldest_first),
                (2, Some((7, 1)), true)
            );
        }
        let params = Params::new(vec![json!({"metadata": {"pagesize": 5001}})]);
        assert!(Wanted::read(params.fields(0).unwrap()).is_err());
    }

    #[test]
    fn a_page_ends_by_count_or_by_bytes_but_is_never_empty() {
        let mut filling = Filling::new(2);
        assert!(filling.push(1, PAGE_BYTES_MAX + 1));
        assert!(!filling.push(2, 1));
        let page = filling.finish();
        assert!(page.hasmore && page.data == [1]);
    }
}
