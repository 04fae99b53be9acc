//! Who had a standby asks it at each start whether its place was taken.

use super::*;
use crate::session::LastReceiver;

fn asked(out: &[Action]) -> bool {
    let asks = |action: &Action| {
        matches!(
            action,
            Action::Dial {
                purpose: DialPurpose::Question { .. }
            }
        )
    };
    out.iter().any(asks)
}

#[test]
fn a_link_that_breaks_before_the_answer_is_made_once_more_and_no_block_before_that() {
    let mut own = setup(Role::Provider);
    own.last_receiver = Some(LastReceiver {
        node_id: NodeId([7; 16]),
        hostname: Hostname::new("cvp").unwrap(),
        address: "10.0.0.7:1".into(),
    });
    let mut pair = Pair::new(own);
    let purpose = DialPurpose::Question {
        address: "10.0.0.7:1".into(),
    };
    let mut step = |event: Event| pair.step(0, event).now;
    assert!(asked(&step(Event::Held(Vec::new()))));
    for (conn, again) in [(1, true), (2, false)] {
        let peer = PeerTls::default();
        step(Event::Dialed {
            conn,
            purpose: purpose.clone(),
            peer,
        });
        let out = step(Event::Closed { conn, reason: None });
        assert_eq!((asked(&out), out.contains(&Action::AllowMaking)), (again, !again));
    }
}
