// SPDX-License-Identifier: Apache-2.0
//! How long a call is kept.

use std::time::Duration;

use super::super::config::Config;

/// Time after which a call is given up: the limit in its frame and a little more, so that the caller's own timer goes
/// first. A frame without one is kept for the longest of what the providers announce and the default, because its
/// consumer may wait longer than its provider suggests.
pub(in crate::call) fn limit(config: &Config, in_frame: Option<Duration>, of_route: Option<Duration>) -> Duration {
    let limit = match in_frame {
        Some(limit) if !limit.is_zero() => limit,
        _ => of_route.unwrap_or_default().max(config.default_timeout.0),
    };
    limit.min(LONGEST) + config.timeout_slack.0
}

/// No call is kept longer, whatever its frame says: an entry of the stream table is not for ever.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn the_frame_goes_first_then_the_longer_of_route_and_default() {
        let config = Config::default();
        let slack = config.timeout_slack.0;
        assert_eq!(limit(&config, Some(ms(100)), Some(ms(5))), ms(100) + slack);
        assert_eq!(limit(&config, None, Some(ms(90_000))), ms(90_000) + slack);
        assert_eq!(limit(&config, None, Some(ms(5))), config.default_timeout.0 + slack);
        assert_eq!(
            limit(&config, Some(Duration::ZERO), None),
            config.default_timeout.0 + slack
        );
        assert_eq!(limit(&config, Some(Duration::MAX), None), LONGEST + slack);
    }
}
