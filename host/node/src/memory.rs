//! What the system's allocator keeps.

/// Bounds the arenas of the C library's allocator by the processors. By default it makes eight for each: threads of a few namespaces leave what
/// they freed in one each, which was a fifth of a receiver's memory, and as many arenas as processors served as quickly (docs/performance.md).
pub fn bound_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let arenas = libc::c_int::try_from(processors.max(2)).unwrap_or(libc::c_int::MAX);
        // SAFETY: it sets a number of the allocator, and touches no memory of ours.
        #[allow(unsafe_code)]
        let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
        if set == 0 {
            eprintln!("cvp: the allocator takes no bound; the node needs more memory");
        }
    }
}
