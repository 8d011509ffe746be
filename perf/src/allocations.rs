//! The proof that the path allocates nothing a burst, counted by the allocator itself.

use crate::rig::{Rig, Scenario};

/// Bursts that are watched.
const BURSTS: usize = 2_000;

/// Sends bursts through the path and fails when one of them allocated.
pub(crate) fn check(scenario: &Scenario, seed: u64) -> Result<(), String> {
    let mut rig = Rig::new(scenario, seed)?;
    rig.step();
    let mut packets = 0;
    let counted = allocation_counter::measure(|| {
        for _ in 0..BURSTS {
            packets += rig.step();
        }
    });
    println!("{:<18} {packets} packets, {} allocations", scenario.name, counted.count_total);
    if counted.count_total == 0 {
        Ok(())
    } else {
        Err(format!("{}: the path allocated {} times", scenario.name, counted.count_total))
    }
}
