//! Verification of what is on the disk: core walks the records and replays the state chain; the sum of the whole state is made here, on a
//! snapshot, so a running node goes on.

use cvp_core::ledger::{BadPlace, Chain, Ledger, LedgerError, VerifyReport, state_place, verify_chain};
use cvp_core::record::parse;
use cvp_core::types::{Height, Position};

use crate::store::Store;

pub(crate) fn verify(
    store: &Store,
    from: Height,
    to: Height,
    progress: &mut dyn FnMut(Height),
) -> Result<VerifyReport, LedgerError> {
    let durable = store.tips().durable.height;
    let (to, whole) = (to.min(durable), to >= durable);
    let below = match from.checked_sub(1).filter(|below| *below < durable) {
        Some(below) => match position_at(store, below)? {
            Ok(position) => Some(position),
            Err(bad) => return Ok(report_of(bad)),
        },
        None => None,
    };
    let mut read = |first, last, bytes_max| store.read_disk(first, last, bytes_max);
    let chain = Chain {
        namespace: store.namespace,
        below,
        from,
        to,
        read: &mut read,
    };
    let chain = verify_chain(chain, progress)?;
    let state_checked = whole && chain.first_bad.is_none();
    let first_bad = if state_checked {
        check_state(store)?
    } else {
        chain.first_bad
    };
    Ok(VerifyReport {
        checked: chain.checked,
        first_bad,
        state_checked,
        state_chain_checked: chain.state_chain_checked,
    })
}

/// Position of the stored record at `height`, or what is wrong with it.
fn position_at(store: &Store, height: Height) -> Result<Result<Position, BadPlace>, LedgerError> {
    let (bytes, _) = store.read_disk(height, height, 1)?;
    let parsed = parse(&bytes).map(|record| record.position());
    Ok(parsed.map_err(|e| place(height, "header", e.what)))
}

/// Sums up every key of the state and compares with the header of the record it stands at.
fn check_state(store: &Store) -> Result<Option<BadPlace>, LedgerError> {
    let Some((marker, sum)) = store.databases.sum_state()? else {
        return Ok(Some(place(0, "state", "the state database is empty")));
    };
    let height = marker.position.height;
    let (bytes, _) = store.read_disk(height, height, 1)?;
    let Ok(record) = parse(&bytes) else {
        return Ok(Some(place(height, "header", "the record does not parse")));
    };
    if record.position() != marker.position {
        let message = format!(
            "the state is of {}, the log has {}",
            marker.position.hash,
            record.hash()
        );
        return Ok(Some(place(height, "state", message)));
    }
    if marker.accumulator != sum {
        let message = "the sum kept beside the state is not the sum of its keys";
        return Ok(Some(place(height, "state", message)));
    }
    Ok(state_place(height, record.header().state, sum.digest()))
}

fn report_of(bad: BadPlace) -> VerifyReport {
    VerifyReport {
        checked: 0,
        first_bad: Some(bad),
        state_checked: false,
        state_chain_checked: false,
    }
}

fn place(height: Height, part: &str, message: impl ToString) -> BadPlace {
    BadPlace {
        height,
        part: part.to_owned(),
        message: message.to_string(),
    }
}
