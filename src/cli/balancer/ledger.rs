//! What servers cost, and where that is kept.

use std::path::PathBuf;
use std::sync::Arc;

use super::{CheckError, FleetName};
use crate::config::{PriceEntry, budget, price};
use crate::core::{Money, Price};
use crate::ledger;

#[derive(Debug, clap::Args)]
pub(super) struct LedgerFlags {
    /// A directory for the ledger: what servers ran and cost, over restarts [default: it is kept in memory]
    #[arg(long, env = "PADDOCK_STATE_DIR", value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// What an hour of one server costs, in USD, or an instance type whose price in us-east-1 is known; one for each
    /// --asg-name, in their order
    #[arg(long, env = "PADDOCK_PRICE_PER_HOUR", value_name = "USD|TYPE", value_delimiter = ',', value_parser = price)]
    price_per_hour: Vec<PriceEntry>,
    /// The most that a UTC day may cost, in USD: no server is started that would break it
    #[arg(long, env = "PADDOCK_MAX_COST_PER_DAY", value_name = "USD", value_parser = budget)]
    max_cost_per_day: Option<Money>,
}

impl LedgerFlags {
    /// Whether the ledger could be kept where it is to be: what a start would find out.
    pub(super) fn check(&self) -> Result<(), CheckError> {
        self.state_dir.as_deref().map_or(Ok(()), ledger::check).map_err(CheckError::StateDir)
    }

    /// The prices of the groups, in their order, and the limit.
    pub(super) fn prices(
        &self,
        fleet: FleetName,
        groups: u32,
    ) -> Result<(Arc<[Price]>, Option<Money>), CheckError> {
        let prices: Arc<[Price]> = self.price_per_hour.iter().map(|entry| entry.0).collect();
        let (given, budget) = (prices.len(), self.max_cost_per_day);
        if fleet == FleetName::None {
            if let Some(budget) = budget {
                return Err(CheckError::BudgetWithoutFleet(budget.usd()));
            }
            if given > 0 {
                return Err(CheckError::PriceWithoutFleet(prices[0].usd()));
            }
        }
        if let Some(budget) = budget.filter(|_| given == 0) {
            return Err(CheckError::BudgetWithoutPrice(budget.usd()));
        }
        if given > 0 && given != groups as usize {
            return Err(match fleet {
                FleetName::Asg => CheckError::PricesOfGroups { given, groups },
                FleetName::None | FleetName::Process => CheckError::PricesOfProcesses { given },
            });
        }
        Ok((prices, budget))
    }
}
