//! Flow control: how many calls a namespace takes (`rpc.qps.flowCtrl`). A bucket of `capacity` tokens each, filled with `limit` a second.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use arc_swap::ArcSwap;
use cvp_core::config::FlowControl;
use cvp_core::types::Namespace;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::error::{QPS_LIMIT, RpcError};

/// The bucket of one namespace.
struct Bucket<C: Clock = DefaultClock> {
    limit: u64,
    tokens: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
}

impl<C: Clock> Bucket<C> {
    /// None when calls are not to be counted.
    fn new(keys: &FlowControl, clock: C) -> Option<Self> {
        let positive = |number: u64| NonZeroU32::new(u32::try_from(number).unwrap_or(u32::MAX));
        let (limit, capacity) = (positive(keys.limit)?, positive(keys.capacity)?);
        let quota = Quota::per_second(limit).allow_burst(capacity);
        keys.enable.then(|| Self {
            limit: keys.limit,
            tokens: RateLimiter::direct_with_clock(quota, clock),
        })
    }

    fn take(&self) -> Result<(), RpcError> {
        self.tokens.check().map_err(|_| {
            let text = format!("too many requests: this namespace takes {} a second", self.limit);
            RpcError::new(QPS_LIMIT, text)
        })
    }
}

/// The buckets of all namespaces; none for those that are not limited.
#[derive(Default)]
pub(super) struct Buckets(ArcSwap<BTreeMap<String, Bucket>>);

impl Buckets {
    /// New limits, with full buckets.
    pub(super) fn set(&self, keys: &BTreeMap<Namespace, FlowControl>) {
        let buckets = keys.iter().filter_map(|(namespace, keys)| {
            let bucket = Bucket::new(keys, DefaultClock::default())?;
            Some((namespace.to_string(), bucket))
        });
        self.0.store(std::sync::Arc::new(buckets.collect()));
    }

    /// One call to `namespace`.
    ///
    /// # Errors
    /// -32026: more than it takes.
    pub(super) fn take(&self, namespace: &str) -> Result<(), RpcError> {
        self.0.load().get(namespace).map_or(Ok(()), Bucket::take)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn keys(enable: bool) -> FlowControl {
        FlowControl {
            enable,
            capacity: 3,
            limit: 10,
        }
    }

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let clock = FakeRelativeClock::default();
        let bucket = Bucket::new(&keys(true), clock.clone()).unwrap();
        let passed = || (0..100).filter(|_| bucket.take().is_ok()).count();
        assert_eq!(passed(), 3);
        clock.advance(Duration::from_millis(200));
        assert_eq!(passed(), 2);
        clock.advance(Duration::from_secs(60));
        assert_eq!(passed(), 3, "never more than the capacity at once");
        assert_eq!(bucket.take().unwrap_err().code, -32026);
    }

    #[test]
    fn each_namespace_has_its_own_bucket_and_may_have_none() {
        let name = |name: &str| Namespace::new(name).unwrap();
        let buckets = Buckets::default();
        assert!(buckets.take("global").is_ok(), "before anything is set");
        buckets.set(&BTreeMap::from([
            (name("global"), keys(true)),
            (name("ns1"), keys(false)),
        ]));
        let refused = |namespace: &str| (0..1000).filter(|_| buckets.take(namespace).is_err()).count();
        assert!(refused("global") > 0);
        assert_eq!(refused("ns1"), 0);
        assert_eq!(refused("unknown"), 0);
    }
}
