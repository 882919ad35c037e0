//! Prices and sums of money, exact until they are shown.

use std::iter::Sum;
use std::ops::{Add, Mul};
use std::time::Duration;

/// The dearest instance, and the greatest limit, in USD: more is a mistake.
const USD_MAX: f64 = 1_000_000.0;

const NANOS: f64 = 1e9;
const HOUR_NANOS: u128 = 3_600_000_000_000;

/// What an hour of one instance costs, in billionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(u64);

impl Price {
    /// From USD per hour; none below zero, beyond a million, or if it is no number.
    #[must_use]
    pub fn from_usd(usd: f64) -> Option<Self> {
        (0.0..=USD_MAX).contains(&usd).then(|| Self((usd * NANOS).round() as u64))
    }

    /// In USD per hour.
    #[must_use]
    pub fn usd(self) -> f64 {
        self.0 as f64 / NANOS
    }

    /// What so much time costs.
    #[must_use]
    pub fn of(self, span: Duration) -> Money {
        Money(u128::from(self.0) * span.as_nanos())
    }

    /// For how long so much money lasts; none if it costs nothing, or lasts for longer than anybody would wait.
    pub(super) fn lasts(self, money: Money) -> Option<Duration> {
        let nanos = money.0.checked_div(u128::from(self.0))?;
        u64::try_from(nanos).ok().map(Duration::from_nanos)
    }
}

impl Mul<u32> for Price {
    type Output = Self;
    fn mul(self, instances: u32) -> Self {
        Self(self.0.saturating_mul(u64::from(instances)))
    }
}

impl Sum for Price {
    fn sum<I: Iterator<Item = Self>>(prices: I) -> Self {
        Self(prices.fold(0, |sum, price| sum.saturating_add(price.0)))
    }
}

/// A sum of money. It is kept as what [`Price`] and nanoseconds multiply to, so that nothing is rounded before it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Money(u128);

impl Money {
    /// From USD; none below zero, beyond a million, or if it is no number.
    #[must_use]
    pub fn from_usd(usd: f64) -> Option<Self> {
        Price::from_usd(usd).map(|price| Self(u128::from(price.0) * HOUR_NANOS))
    }

    /// In USD.
    #[must_use]
    pub fn usd(self) -> f64 {
        self.0 as f64 / HOUR_NANOS as f64 / NANOS
    }

    /// Whether it is nothing at all.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub(super) fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Mul<u32> for Money {
    type Output = Self;
    fn mul(self, times: u32) -> Self {
        Self(self.0.saturating_mul(u128::from(times)))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_until_it_is_shown() {
        let price = Price::from_usd(0.526).unwrap();
        assert_eq!(price.usd(), 0.526);
        let hour = Duration::from_secs(3600);
        assert_eq!(Money::from_usd(0.526), Some(price.of(hour)));
        let seconds: Money = (0..3600).map(|_| price.of(Duration::from_secs(1))).sum();
        assert_eq!(seconds, price.of(hour));
        assert_eq!((price * 2).of(hour).usd(), 1.052);
        assert_eq!(price.lasts(price.of(hour)), Some(hour));
        assert_eq!(Price::from_usd(0.0).unwrap().lasts(price.of(hour)), None);
    }

    #[test]
    fn what_is_no_price_is_none() {
        for usd in [-0.01, f64::NAN, f64::INFINITY, 1_000_001.0] {
            assert_eq!((Price::from_usd(usd), Money::from_usd(usd)), (None, None), "{usd}");
        }
        assert_eq!(Price::from_usd(0.0).map(Price::usd), Some(0.0));
    }
}
