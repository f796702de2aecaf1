//! What the command line says of itself: completions for shells and man pages, made from the same definitions.

use std::{fs, io, path::Path};

use clap::Command;
use clap_complete::Shell;

use super::CliError;

/// `kontor completion`: prints what a shell needs to complete the command line.
pub fn completion(shell: Shell, mut command: Command) {
    clap_complete::generate(shell, &mut command, "kontor", &mut io::stdout());
}

/// `kontor man`: writes a page for each command into a folder.
pub fn man(folder: &Path, command: Command) -> Result<(), CliError> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)?;
    println!("the pages are in {}", folder.display());
    Ok(())
}
