//! Planted faults: the simulator switches one on to prove that it would see it. Compiled only with the feature `planted-faults`, which
//! nothing but the simulator sets; never part of a node.

use std::cell::Cell;

/// A fault that can be switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The digest of a snapshot's chunk is not compared, nor is the sum of its state.
    ChunkNotChecked,
    /// A provider lets records go that its standby lacks.
    RetentionIgnored,
    /// The receiver acknowledges what it ingested, before the fsync.
    AckBeforeFsync,
    /// The receiver takes a run that does not begin at its own tip's hash.
    SkippedParentCheck,
    /// The receiver accepts a provider that was replaced.
    LowerIncarnationAccepted,
    /// The sender's window is one record off: the first record of each fetch is left out.
    WindowOffByOne,
    /// The promotion journal takes a torn entry for a whole one.
    PartialJournalWrite,
    /// The promotion journal is written and not synced.
    JournalNotSynced,
    /// The journal says that a step is finished before its effect is durable.
    StepRecordedFirst,
    /// A start does not look into the promotion journal.
    ResumeForgotten,
    /// A resumed promotion takes the identity over as the provider had it, without the new incarnation.
    IncarnationNotRaised,
    /// A resumed promotion does not see that the take-over block is there, and makes another.
    TakeoverRepeated,
    /// A chain that did not run when its node was promoted goes on without a take-over block.
    TakeoverForgotten,
    /// A late take-over does not say in the lineage where it began.
    LateStartForgotten,
    /// Namespaces that one end runs alone are nobody's concern.
    DifferenceIgnored,
    /// A configuration file is written in place, not replaced as a whole.
    ConfigurationInPlace,
    /// The preflight does not ask whether the provider lives.
    LiveTargetPassed,
    /// A control file is written in place, and read without its checksum.
    PartialControlFile,
    /// The provider takes a second standby while it serves one.
    SecondStandbyAccepted,
    /// Nobody compares the binding with the provider.
    BindingNotChecked,
    /// Nobody compares the hashes at the receiver's tip.
    TipHashNotCompared,
    /// The provider sends what is appended, not what is durable.
    SentBeforeDurable,
    /// Frames of an older link are taken for the session's.
    StaleAckAccepted,
    /// The receiver does not check the state commitment.
    SkippedStateCommitment,
    /// The judge of heartbeats always says fresh.
    JudgeNeverTardy,
    /// A provider is fenced by whoever says that its place was taken.
    TakeOverNotProven,
    /// A provider goes on although its place was taken.
    FenceIgnored,
    /// A provider makes its first block without asking.
    QuestionSkipped,
    /// The fence is announced before it is durable, and forgotten in a crash.
    FenceNotDurable,
    /// A stalled stream is reported as normal.
    StallNotSeen,
    /// The provider commits a strong change without waiting for the receiver's word.
    CommitBeforePrepared,
    /// An abort of a strong change is taken for done and never sent.
    LostAbort,
    /// The receiver says that it holds a change before that is durable.
    PreparedBeforeDurable,
    /// The provider tells its tree from before a change once more, behind the commit.
    StaleInventoryTold,
    /// What a hand changed in the copy is not compared with what was written.
    CopyEditNotSeen,
    /// A tree that can be no node's configuration takes the copy's place as any other.
    GoneTreeTaken,
    /// A start does not finish a commit that a crash interrupted.
    CommitNotFinished,
    /// A promotion takes no notice of the change that is staged.
    StagedDropped,
    /// Nobody compares the switches of the data index.
    IndexSwitchNotCompared,
    /// A change of the own index backend is not told in a session.
    IndexStateNotTold,
    /// A receiver's strategy may take over an inventory of queues that is older than a commit.
    StaleQueues,
    /// A change of queues is committed without waiting for the receiver's word.
    QueueCommitBeforePrepared,
    /// At an upgrade cursors of queues stay where the provider had them.
    CursorNotCut,
    /// At an upgrade no queue is told that heights may come again.
    NoticeForgotten,
    /// Blocks that a node does not have are passed over without a word to the queue that lacks them.
    MissingNotTold,
    /// The receiver says that it holds cursors of queues before they are durable.
    CursorsKeptBeforeDurable,
    /// A cursor moves when a window is published, not when it is confirmed.
    CursorAheadOfConfirmed,
    /// The window has no bound.
    CreditIgnored,
    /// A provider serves as many followers as come.
    FollowersUnlimited,
    /// What a follower acknowledges is taken for the standby's.
    FollowerTakenForStandby,
}

thread_local! {
    static ACTIVE: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Switches a fault on (or all off) for this thread.
pub fn set(fault: Option<Fault>) {
    ACTIVE.with(|active| active.set(fault));
}

/// Whether a fault is on.
pub fn active(fault: Fault) -> bool {
    ACTIVE.with(|active| active.get() == Some(fault))
}
