// SPDX-License-Identifier: Apache-2.0
//! The binary: the command line with the plugins of this repository.

use std::process::ExitCode;

fn main() -> ExitCode {
    remora::cli::main(remora::Plugins::default())
}
