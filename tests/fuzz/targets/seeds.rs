//! Writes the small seed corpus anew: `seeds FOLDER` fills a folder of FOLDER for each target.
#![forbid(unsafe_code)]

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder: PathBuf = std::env::args_os().nth(1).unwrap_or_else(|| "corpus".into()).into();
    for (target, seeds) in [
        ("frames", nva_tests::hostile::frame_seeds()),
        ("config", nva_tests::hostile::config_seeds()),
        ("import", nva_tests::hostile::import_seeds()),
        ("splice", nva_tests::hostile::splice_seeds()),
    ] {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
