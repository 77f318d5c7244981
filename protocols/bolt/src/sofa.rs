// SPDX-License-Identifier: Apache-2.0
//! What SOFARPC says about a call in the header map of its request, beside the content.
//!
//! Source: `SofaRpcSerialization.putRequestMetadataToHeader` and `RemotingConstants` of sofa-rpc 5.6 to 5.13, and the
//! captures in `testbed/golden/bolt/`.

use remora_protocol::Frame;

use crate::frame::Parts;
use crate::header::{Header, HeaderError};

/// What a request says about its call; values are the frame's own bytes, UTF-8 if Java wrote them. Keys that are not there
/// are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call<'f> {
    /// `interface:version[:uniqueId]`.
    pub service: &'f [u8],
    /// Method.
    pub method: &'f [u8],
    /// Application of the provider that the consumer's list named.
    pub target_app: &'f [u8],
    /// The calling application.
    pub caller: &'f [u8],
    /// Id of the trace that the call belongs to.
    pub trace_id: &'f [u8],
    /// Its place in the trace, such as `0.1`.
    pub span_id: &'f [u8],
    /// `1` or `2` when arguments and result are generic objects.
    pub generic_type: &'f [u8],
}

impl<'f> Call<'f> {
    /// Reads the header map of a request; a head without content will do. All is empty when there is none.
    ///
    /// # Errors
    /// When the map breaks off.
    pub fn of(request: &'f Frame) -> Result<Self, HeaderError> {
        let parts = Parts::of(&request.wire);
        Self::read(parts.map(|parts| parts.header).unwrap_or_default())
    }

    pub(crate) fn read(header: Header<'f>) -> Result<Self, HeaderError> {
        let mut call = Self::default();
        let (mut fallback, mut tracer_caller): (&[u8], &[u8]) = Default::default();
        for pair in header.pairs() {
            let (key, value) = pair?;
            match key {
                b"service" => call.service = value,
                b"sofa_head_target_service" => fallback = value,
                b"sofa_head_method_name" => call.method = value,
                b"sofa_head_target_app" => call.target_app = value,
                b"app" => call.caller = value,
                b"rpc_trace_context.sofaCallerApp" => tracer_caller = value,
                b"rpc_trace_context.sofaTraceId" => call.trace_id = value,
                b"rpc_trace_context.sofaRpcId" => call.span_id = value,
                b"sofa_head_generic_type" => call.generic_type = value,
                _ => {}
            }
        }
        if call.service.is_empty() {
            call.service = fallback;
        }
        // As MOSN reads it.
        if !tracer_caller.is_empty() {
            call.caller = tracer_caller;
        }
        Ok(call)
    }

    /// Whether arguments and result are generic objects.
    pub fn is_generic(&self) -> bool {
        !matches!(self.generic_type, b"" | b"0")
    }
}

/// Class of a request.
pub(crate) const REQUEST_CLASS: &str = "com.alipay.sofa.rpc.core.request.SofaRequest";
/// Class of a reply.
pub(crate) const RESPONSE_CLASS: &str = "com.alipay.sofa.rpc.core.response.SofaResponse";
/// Key of a reply that carries an error of the framework or an exception of the application; its value is `true`.
pub(crate) const RESPONSE_ERROR: &str = "sofa_head_response_error";
/// Fields of [`RESPONSE_CLASS`], in the order in which Java writes them.
pub(crate) const RESPONSE_FIELDS: [&str; 4] = ["isError", "errorMsg", "appResponse", "responseProps"];
