//! The plan of a seed, and the run of a plan.

use core::time::Duration;

use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::plan::Plan;
use crate::strategy;
use crate::world::World;

/// Virtual time limit of a session: more than any needs to come to rest.
const LONG: Duration = Duration::from_secs(4 * 3600);

thread_local! {
    /// Created once, because creating it takes longer than generating a plan.
    static PLANS: BoxedStrategy<Plan> = strategy::any_plan().boxed();
}

/// The plan of a seed, the same on every machine.
///
/// # Errors
/// When no plan can be generated, which the strategies rule out.
pub fn plan_of(seed: u64) -> Result<Plan, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = PLANS.with(|plans| plans.new_tree(&mut runner));
    tree.map(|tree| tree.current()).map_err(|why| format!("no plan: {why}"))
}

/// Runs one session by this plan, from its opening until no event is left.
pub fn run(plan: Plan) -> World {
    to_rest(World::new(plan))
}

/// The same without a journal.
pub fn run_unrecorded(plan: Plan) -> World {
    to_rest(World::new(plan).unrecorded())
}

fn to_rest(mut world: World) -> World {
    world.open();
    world.run_until_quiet(LONG);
    world
}
