//! Money, as people write it, and the prices of instance types that are known.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ValueError;
use crate::core::{Money, Price};

/// Prices with their date: the same file that the infrastructure's costs are computed from.
const PRICES: &str = include_str!("../../infra/prices.json");

/// What an hour of one server costs, as it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceEntry(pub Price);

/// A number of USD per hour, or an instance type.
///
/// # Errors
/// If it is neither a number from 0 to a million nor a type whose price is known.
pub fn price(text: &str) -> Result<PriceEntry, ValueError> {
    let usd = match number(text) {
        Some(usd) => Some(usd),
        None => {
            let known = known();
            match known.get(text) {
                Some(&usd) => Some(usd),
                None if text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    let known: Vec<&str> = known.keys().map(String::as_str).collect();
                    return Err(ValueError::NotAType {
                        text: text.escape_debug().to_string(),
                        known: known.join(", "),
                    });
                }
                None => None,
            }
        }
    };
    let price = usd.and_then(Price::from_usd).map(PriceEntry);
    price.ok_or_else(|| ValueError::NotAPrice(text.escape_debug().to_string()))
}

/// A number of USD above zero.
///
/// # Errors
/// If it is none, or more than a million.
pub fn budget(text: &str) -> Result<Money, ValueError> {
    let money = number(text).and_then(Money::from_usd).filter(|money| !money.is_zero());
    money.ok_or_else(|| ValueError::NotABudget(text.escape_debug().to_string()))
}

/// Digits with a point: what else a float may be written as is no price.
fn number(text: &str) -> Option<f64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_plain.then(|| text.parse().ok()).flatten()
}

/// USD per hour by instance type.
fn known() -> BTreeMap<String, f64> {
    #[derive(Deserialize)]
    struct File {
        instance_hour: BTreeMap<String, f64>,
    }
    // A test reads it: what is compiled in does not change.
    serde_json::from_str::<File>(PRICES).map(|file| file.instance_hour).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_number_or_a_known_type() {
        for (text, usd) in [("0.526", 0.526), ("1", 1.0), ("0", 0.0), (".5", 0.5), ("g5.xlarge", 1.006)] {
            assert_eq!(price(text).map(|entry| entry.0.usd()), Ok(usd), "{text}");
        }
        for text in ["", "-1", "1e3", "1.2.3", "1000001", "$1", "."] {
            assert_eq!(price(text), Err(ValueError::NotAPrice(text.to_owned())), "{text}");
        }
        let unknown = price("p5.48xlarge").unwrap_err().to_string();
        assert!(unknown.contains("'p5.48xlarge'") && unknown.contains("g5.xlarge, g5g.xlarge"), "{unknown}");
    }

    #[test]
    fn a_budget_is_above_zero() {
        assert_eq!(budget("2.5").map(Money::usd), Ok(2.5));
        for text in ["0", "0.0", "", "-1", "g5.xlarge", "inf", "NaN"] {
            assert_eq!(budget(text), Err(ValueError::NotABudget(text.to_owned())), "{text}");
        }
    }
}
