//! Reload: a new configuration is taken up whole or not at all.

use super::control::Control;
use crate::cli::ConfigArgs;
use crate::files::{self, Depth};
use crate::output::complain;
use crate::unbuilt::{Purpose, unbuilt};

/// Reads the files again and publishes what they say. Where anything is wrong it says so and changes nothing.
pub(crate) fn reload(control: &Control, args: &ConfigArgs) {
    let (name, generation) = {
        let state = control.state();
        (state.config.name.clone(), state.generation)
    };
    match try_reload(control, args) {
        Ok(generation) => complain(format_args!("{name}: configuration {generation} is in use")),
        Err(problems) => {
            problems.iter().for_each(complain);
            complain(format_args!("{name}: not reloaded; configuration {generation} stays in use"));
        }
    }
}

fn try_reload(control: &Control, args: &ConfigArgs) -> Result<u32, Vec<String>> {
    let lines =
        |problems: Vec<nva_config::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let config = files::load(&args.files, Depth::WithFiles).map_err(lines)?;
    let missing = unbuilt(&config, Purpose::Run);
    if !missing.is_empty() {
        return Err(lines(missing));
    }
    control.replace(config)
}
