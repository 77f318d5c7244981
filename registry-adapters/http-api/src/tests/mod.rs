// SPDX-License-Identifier: Apache-2.0
//! Both doors with real sockets and a discovery that notes what it is asked.

mod dubbod;
mod house;
mod liveness;
mod mesh;
mod restarts;
mod safety;
