//! One metric for each value of a label. What is counted is found by its place: prometheus-client's `Family` takes a lock and a
//! hash for that, which is right only where the values are not known before (`aws_calls`).

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::label::Label;

/// A metric `M` for each value of the label `L`.
pub struct Each<L, M> {
    metrics: Arc<[M]>,
    label: PhantomData<fn() -> L>,
}

impl<L: Label, M> Each<L, M> {
    pub(super) fn new(mut metric: impl FnMut() -> M) -> Self {
        Self { metrics: L::ALL.iter().map(|_| metric()).collect(), label: PhantomData }
    }

    /// That of one value.
    #[must_use]
    pub fn of(&self, label: L) -> &M {
        &self.metrics[label.place()]
    }
}

impl<L: Label, M: Default> Default for Each<L, M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

impl<L, M> Clone for Each<L, M> {
    fn clone(&self) -> Self {
        Self { metrics: self.metrics.clone(), label: PhantomData }
    }
}

impl<L, M: fmt::Debug> fmt::Debug for Each<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.metrics.iter()).finish()
    }
}

impl<L: Label, M: EncodeMetric + TypedMetric> EncodeMetric for Each<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (label, metric) in L::ALL.iter().zip(self.metrics.iter()) {
            metric.encode(encoder.encode_family(&[(L::NAME, label.value())])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
