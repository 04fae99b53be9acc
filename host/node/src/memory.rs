//! What the system's allocator keeps.

/// What of the free memory at its end an arena keeps, and the least that is taken from the system by itself: buffers of runs come and go by the
/// thousand, and each page given back and taken anew is a fault (docs/performance.md). Bytes; the most that the allocator takes for the second.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 32 << 20;

/// Bounds the arenas of the C library's allocator by the processors, and lets each keep what it will be asked for again. By default it makes
/// eight for each processor: threads of a few namespaces leave what they freed in one each, which was a fifth of a receiver's memory, and as many
/// arenas as processors serve as quickly.
pub fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let arenas = libc::c_int::try_from(processors.max(2)).unwrap_or(libc::c_int::MAX);
        let settings = [
            (libc::M_ARENA_MAX, arenas),
            (libc::M_TRIM_THRESHOLD, KEPT_BYTES),
            (libc::M_MMAP_THRESHOLD, KEPT_BYTES),
        ];
        // SAFETY: it sets a number of the allocator, and touches no memory of ours.
        #[allow(unsafe_code)]
        let set = settings.map(|(what, value)| unsafe { libc::mallopt(what, value) });
        if set.contains(&0) {
            eprintln!("cvp: the allocator takes no bound; the node needs more memory");
        }
    }
}
