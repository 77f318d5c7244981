// SPDX-License-Identifier: Apache-2.0
//! What a request says about where it wants to go.

use std::borrow::Cow;
use std::time::Duration;

/// Route keys of one request, borrowed from its frame where the bytes allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteKeys<'f> {
    /// Service name, e.g. `com.example.EchoService`.
    pub service: Cow<'f, str>,
    /// Group; empty if none.
    pub group: Cow<'f, str>,
    /// Service version; empty if none (a plugin maps its protocol's "none", such as Dubbo's `0.0.0`, to empty).
    pub version: Cow<'f, str>,
    /// Method as the caller named it. For a generic call the real method, with `is_generic` set.
    pub method: Cow<'f, str>,
    /// The call came through the generic interface (`$invoke`).
    pub is_generic: bool,
    /// The caller's own limit for this call, when the frame says it.
    pub timeout: Option<Duration>,
    /// The calling application, when the frame says it.
    pub caller: Option<Cow<'f, str>>,
    /// The call hands a callback to the provider: requests will come back on the connection that carries it, so this
    /// downstream connection needs upstream connections of its own from now on.
    pub pins_connection: bool,
    /// Serialization of the body, as instances name it in their metadata (`hessian2`, `fastjson2`), if the plugin
    /// knows the number.
    pub serialization: Option<&'static str>,
}
