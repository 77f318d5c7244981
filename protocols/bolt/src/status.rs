// SPDX-License-Identifier: Apache-2.0
//! The status of a reply. Source: `ResponseStatus` of sofa-bolt 1.6, which closes the connection on any other number, and
//! what SOFARPC makes of each (`BoltClientTransport.convertToRpcException`).

/// The call returned, or what the application threw is in the content.
pub const SUCCESS: u16 = 0x00;
/// The bolt server threw; the content may have the exception.
pub const SERVER_EXCEPTION: u16 = 0x02;
/// Refused before it ran: SOFARPC tries again if it may.
///
/// Java's bolt says so when the pool takes no task, full or shut down (`RpcRequestProcessor.process` gives the whole task to
/// it and `RpcCommandHandler` answers its `RejectedExecutionException`), so nothing of the call was run. But also when a
/// processor throws that exception itself (`dispatchToUserProcessor`): SOFARPC's catches everything, a user's own may have
/// done half of its work.
pub const SERVER_THREADPOOL_BUSY: u16 = 0x04;
/// Nobody reads contents of that class.
pub const NO_PROCESSOR: u16 = 0x06;
/// No answer in time: SOFARPC tries again if it may.
pub const TIMEOUT: u16 = 0x07;
/// The frame is none that the peer can read.
pub const CODEC_EXCEPTION: u16 = 0x09;
/// The connection behind it closed: SOFARPC does not try again.
pub const CONNECTION_CLOSED: u16 = 0x10;
