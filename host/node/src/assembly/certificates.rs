//! When the TLS certificates of the pair end: a warning beforehand, a reason afterwards.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ipc::{ReasonView, StatusView};

/// A certificate that ends so soon is warned of: long enough to make a new one on both nodes.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

const CODE: &str = "certificate-expires";

/// Ends of validity, Unix seconds; none without TLS, or without a session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    pub(super) own: Option<i64>,
    pub(super) peer: Option<i64>,
    /// Of the own certificate of JSON-RPC, which proves nothing about the pair.
    pub(super) https: Option<i64>,
}

/// Adds to `view` what is to be said at `now`. A certificate that has ended leaves no proof that the pair can connect again.
pub(super) fn add(view: &mut StatusView, ends: Ends, now: SystemTime) {
    let of_its_own = ends.https.filter(|_| ends.https != ends.own);
    if let Some(end) = of_its_own.map(moment)
        && end.duration_since(now).unwrap_or_default() < WARN_BEFORE
    {
        let date = humantime::format_rfc3339_seconds(end);
        let word = if end <= now { "ended" } else { "ends" };
        let text = format!(
            "the certificate of JSON-RPC (http.tlsCert) {word} at {date}; make a new one with `cvp certgen` and start this node again"
        );
        view.warnings.push(ReasonView::new(CODE, text));
    }
    for (whose, end) in [("this node's", ends.own), ("the peer's", ends.peer)] {
        let Some(end) = end.map(moment) else { continue };
        let date = humantime::format_rfc3339_seconds(end);
        let make = "make a new one with `cvp certgen` and start that node again";
        if end <= now {
            let text = format!("{whose} TLS certificate ended at {date}: no new link comes about; {make}");
            view.reasons.push(ReasonView::new(CODE, text));
            view.normal = false;
        } else if let Ok(left) = end.duration_since(now)
            && left < WARN_BEFORE
        {
            let days = left.as_secs() / (24 * 3600);
            let text = format!("{whose} TLS certificate ends at {date}, in {days} days; {make}");
            view.warnings.push(ReasonView::new(CODE, text));
        }
    }
}

/// Unix seconds as a time of the system; before 1970 and beyond its reach is its nearest end.
fn moment(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    // The last second that RFC 3339 can name, year 9999.
    UNIX_EPOCH + since.min(Duration::from_secs(253_402_300_799))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;
    const NOW: i64 = 1_800_000_000;

    fn said(own: Option<i64>, peer: Option<i64>) -> StatusView {
        view(Ends { own, peer, https: None })
    }

    fn view(ends: Ends) -> StatusView {
        let normal = r#"{"normal":true,"role":"provider","hostname":"node1","node_id":null,"incarnation":null,"enabled":true,
            "peer":null,"reasons":[],"namespaces":[]}"#;
        let mut view: StatusView = serde_json::from_str(normal).unwrap();
        add(&mut view, ends, moment(NOW));
        view
    }

    #[test]
    fn a_certificate_is_warned_of_for_thirty_days_and_then_a_reason() {
        let quiet = said(Some(NOW + 31 * DAY), None);
        assert!(quiet.normal && quiet.warnings.is_empty() && quiet.reasons.is_empty());
        let soon = said(Some(NOW + 10 * DAY), Some(NOW + 29 * DAY));
        assert!(soon.normal && soon.reasons.is_empty());
        let texts: Vec<&str> = soon.warnings.iter().map(|w| w.message.as_str()).collect();
        assert!(
            texts[0].starts_with("this node's TLS certificate ends at 2027-01-25T08:00:00Z, in 10 days"),
            "{texts:?}"
        );
        assert!(texts[1].starts_with("the peer's") && soon.warnings.iter().all(|w| w.code == CODE));
        let over = said(None, Some(NOW));
        assert!(!over.normal && over.warnings.is_empty());
        assert_eq!(over.reasons[0].code, CODE);
    }

    #[test]
    fn the_certificate_of_json_rpc_is_warned_of_and_is_no_reason() {
        for (end, warned) in [(NOW + 40 * DAY, false), (NOW + DAY, true), (NOW - DAY, true)] {
            let view = view(Ends {
                https: Some(end),
                ..Ends::default()
            });
            assert!(view.normal && view.warnings.len() == usize::from(warned), "{end}");
        }
        // The link's own certificate serves both, and is said once.
        let one = Some(NOW + DAY);
        let view = view(Ends {
            own: one,
            https: one,
            peer: None,
        });
        assert_eq!(view.warnings.len(), 1);
    }

    #[test]
    fn ends_beyond_reason_are_named_all_the_same() {
        assert!(!said(Some(i64::MIN), None).normal);
        assert!(said(Some(i64::MAX), None).normal);
    }
}
