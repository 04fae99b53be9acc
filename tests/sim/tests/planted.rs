//! The simulator proves that it can see: each planted fault is caught within 500 seeds.

use cvp_core::planted::{self, Fault};

fn caught(fault: Fault) {
    planted::set(Some(fault));
    for seed in 1..=500 {
        if let Err(failure) = cvp_sim::run(seed) {
            println!("{fault:?}: caught by seed {seed}: {failure}");
            planted::set(None);
            return;
        }
    }
    panic!("{fault:?} was not seen in 500 seeds");
}

macro_rules! faults {
    ($($name:ident: $fault:ident,)*) => { $(#[test] fn $name() { caught(Fault::$fault); })* };
}

faults! {
    ack_before_fsync: AckBeforeFsync,
    skipped_parent_check: SkippedParentCheck,
    lower_incarnation_accepted: LowerIncarnationAccepted,
    window_off_by_one: WindowOffByOne,
    partial_journal_write: PartialJournalWrite,
    second_standby_accepted: SecondStandbyAccepted,
    binding_not_checked: BindingNotChecked,
    tip_hash_not_compared: TipHashNotCompared,
    sent_before_durable: SentBeforeDurable,
    stale_ack_accepted: StaleAckAccepted,
    skipped_state_commitment: SkippedStateCommitment,
    judge_never_tardy: JudgeNeverTardy,
    fence_ignored: FenceIgnored,
    question_skipped: QuestionSkipped,
    fence_not_durable: FenceNotDurable,
    stall_not_seen: StallNotSeen,
    credit_ignored: CreditIgnored,
}
