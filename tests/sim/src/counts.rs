//! What a run reached: none of it may be missing in a long run.

macro_rules! counts {
    ($($field:ident $name:literal,)*) => {
        /// What a run reached.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Counts {
            $(pub $field: u64,)*
        }

        impl Counts {
            /// Each count with its name.
            pub fn fields(&mut self) -> Vec<(&'static str, &mut u64)> {
                vec![$(($name, &mut self.$field),)*]
            }
        }
    };
}

counts! {
    blocks "blocks",
    crashes "crashes",
    torn_tails "torn tails",
    sessions "sessions",
    promotions "promotions",
    promotion_crashes "promotion crashes",
    promotions_resumed "promotions resumed",
    upgrades_refused "upgrades refused",
    fences "fences",
    half_open "half-open links",
    congested "congested links",
    trees_gone "trees gone for a moment",
    partitions "partitions",
    freezes "freezes",
    disk_failures "disk failures",
    recovered "stores recovered",
    tampered "tampered runs",
    tampered_chunks "tampered chunks of snapshots",
    damaged_chunks "chunks refused",
    prunings "prunings",
    adopted "snapshots adopted",
    prepended "pieces of history filled in",
    noted "notes of what the standby holds",
    rejected "rejected runs",
    intruders "intruders",
    forgeries "forged take-overs",
    refused "refusals",
    index_refused "refused index switches",
    index_warnings "warnings of index backends",
    followed "sessions of the follower",
    left_out "chains left out by the follower",
    crowds "crowds of followers",
    swaps "swaps",
    unrecorded "copies left unrecorded",
    works_failed "works on trees failed",
    edits "hand edits",
    copy_edits_found "hand edits of the copy found",
    replicated "changes replicated",
    local "changes local",
    failed "changes failed",
    undecided "changes undecided",
    settled_by_commit "settled by commit",
    settled_by_abort "settled by abort",
    finished "commits finished at a start",
    rolled_forward "changes rolled forward",
    mixed "copies ahead by a change",
    switched "namespaces switched",
    aligned "lists followed",
    held "namespaces held by a promotion",
    belated "belated take-over blocks",
    late "late take-overs",
    queues_replicated "queue changes replicated",
    queues_local "queue changes local",
    queues_failed "queue changes failed",
    queues_undecided "queue changes undecided",
    queues_kept "inventories of queues taken over",
    queues_cut "cursors cut at a take-over",
    events "events told",
    told_again "events told again",
    told_bounded "events told within a window of the standby",
    notices "notices of heights that come again",
    missing "notices of heights that are not there",
    normal_ms "milliseconds normal",
}

impl Counts {
    /// Sums two runs.
    pub fn add(&mut self, other: &Counts) {
        let mut other = *other;
        for ((_, mine), (_, theirs)) in self.fields().into_iter().zip(other.fields()) {
            *mine += *theirs;
        }
    }
}
