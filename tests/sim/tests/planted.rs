//! The simulator proves that it can see: each planted fault is caught within 500 seeds, and for its own sake: by the words of the checker
//! that is there for it.

use cvp_core::planted::{self, Fault};

/// Runs seeds until one fails with one of the `words`.
fn caught(fault: Fault, words: &[&str]) {
    planted::set(Some(fault));
    let mut others = Vec::new();
    for seed in 1..=500 {
        let Err(failure) = cvp_sim::run(seed) else { continue };
        if words.iter().any(|words| failure.contains(words)) {
            println!("{fault:?}: caught by seed {seed}: {failure:.150}");
            return planted::set(None);
        }
        others.push(failure);
    }
    planted::set(None);
    panic!("{fault:?} was not seen in 500 seeds; what was: {others:?}");
}

macro_rules! faults {
    ($($name:ident: $fault:ident $words:expr,)*) => { $(#[test] fn $name() { caught(Fault::$fault, &$words); })* };
}

faults! {
    ack_before_fsync: AckBeforeFsync ["acknowledged"],
    chunk_not_checked: ChunkNotChecked ["that is not its record's"],
    retention_ignored: RetentionIgnored ["the standby holds"],
    skipped_parent_check: SkippedParentCheck ["durable at no maker"],
    lower_incarnation_accepted: LowerIncarnationAccepted ["knew incarnation"],
    window_off_by_one: WindowOffByOne ["receiver Tips"],
    index_switch_not_compared: IndexSwitchNotCompared ["with another index switch"],
    index_state_not_told: IndexStateNotTold ["index of"],
    second_standby_accepted: SecondStandbyAccepted ["for another standby"],
    binding_not_checked: BindingNotChecked ["is bound to"],
    tip_hash_not_compared: TipHashNotCompared ["which has another record"],
    sent_before_durable: SentBeforeDurable ["durable at no maker"],
    stale_ack_accepted: StaleAckAccepted ["unexpected ack"],
    skipped_state_commitment: SkippedStateCommitment ["durable at no maker"],
    judge_never_tardy: JudgeNeverTardy ["is normal, and heard"],
    take_over_not_proven: TakeOverNotProven ["which took nobody's place"],
    fence_ignored: FenceIgnored ["a was never fenced", "makes a block although b took its place"],
    question_skipped: QuestionSkipped ["makes a block although b took its place"],
    fence_not_durable: FenceNotDurable ["has no file that says so"],
    stall_not_seen: StallNotSeen ["durable at the receiver"],
    followers_unlimited: FollowersUnlimited ["followers"],
    follower_taken_for_standby: FollowerTakenForStandby ["no standby holds it"],
    credit_ignored: CreditIgnored ["bytes under way, credit is"],
    partial_control_file: PartialControlFile ["binding: malformed", "last-receiver: malformed", "fenced: malformed"],
    partial_journal_write: PartialJournalWrite ["holds a plan that nobody made", "ends with another journal"],
    journal_not_synced: JournalNotSynced ["has forgotten its promotion", "although its promotion has begun"],
    step_recorded_first: StepRecordedFirst ["ends with another", "promoted under incarnation"],
    resume_forgotten: ResumeForgotten ["two configurations mixed", "although its promotion has begun", "takes over, or"],
    incarnation_not_raised: IncarnationNotRaised ["promoted under incarnation"],
    takeover_repeated: TakeoverRepeated ["ends with another tip"],
    configuration_in_place: ConfigurationInPlace ["ends with another configuration", "cannot be started again"],
    commit_before_prepared: CommitBeforePrepared ["is not durable at the receiver"],
    lost_abort: LostAbort ["and may still be applied"],
    prepared_before_durable: PreparedBeforeDurable ["is not durable at the receiver"],
    stale_inventory_told: StaleInventoryTold ["is no state that its provider had"],
    copy_edit_not_seen: CopyEditNotSeen ["is without the tree that"],
    gone_tree_taken: GoneTreeTaken ["is no state that its provider had"],
    commit_not_finished: CommitNotFinished ["which its provider never committed"],
    staged_dropped: StagedDropped ["is lost"],
    stale_queues: StaleQueues ["takes a commit of queue"],
    queue_commit_before_prepared: QueueCommitBeforePrepared ["of a queue as Replicated and is not durable at the receiver"],
    cursor_not_cut: CursorNotCut ["first, not", "is told block", "its consumer was told"],
    notice_forgotten: NoticeForgotten ["without a word before it"],
    missing_not_told: MissingNotTold ["first, not", "is told block", "nobody said a word"],
    cursors_kept_before_durable: CursorsKeptBeforeDurable ["more than a window ahead of its standby"],
    cursor_ahead_of_confirmed: CursorAheadOfConfirmed ["ahead of what was confirmed"],
    takeover_forgotten: TakeoverForgotten ["takes over, or"],
    late_start_forgotten: LateStartForgotten ["the lineage does not say"],
    difference_ignored: DifferenceIgnored ["the provider runs", "is normal, a runs", "is normal, b runs"],
    live_target_passed: LiveTargetPassed ["is promoted although a answers"],
}
