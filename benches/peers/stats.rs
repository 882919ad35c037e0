//! Medians, and how sure they are.

use std::ops::RangeInclusive;

/// A median with its 95 % interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    pub median: f64,
    pub interval: RangeInclusive<f64>,
}

/// The median of some turns and its interval, by order statistics: how many of the values lie below the true median is
/// binomial with one half, whatever their distribution. The interval is the narrowest between two values of the same
/// rank from both ends that covers it with at least 95 %: of nine values from the second to the eighth (96.1 %).
/// Fewer than six values cannot cover so much: then it is all of them.
pub fn estimate(values: &[f64]) -> Estimate {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = rank_from_ends(sorted.len());
    Estimate {
        median: f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]),
        interval: sorted[rank]..=sorted[sorted.len() - 1 - rank],
    }
}

/// The greatest rank, from 0, whose two values cover the median with at least 95 %.
fn rank_from_ends(values: usize) -> usize {
    let all = 0.5_f64.powi(i32::try_from(values).unwrap());
    // The chance of exactly `below` values under the median, and of at most so many.
    let (mut chance, mut at_most, mut below) = (all, all, 0);
    while 2.0 * at_most <= 0.05 {
        chance *= (values - below) as f64 / (below + 1) as f64;
        below += 1;
        at_most += chance;
    }
    below.saturating_sub(1)
}

/// The ratios of two proxies' turns, round by round.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    assert_eq!(ours.len(), theirs.len(), "rounds are paired");
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// The value that so large a share of the sorted values does not exceed.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}
