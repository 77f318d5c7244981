#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A systemd of its own (a user's manager, in mount and process namespaces of its own) runs deploy/systemd/remora.service as it
# stands but for what a user's manager cannot do, and says what it saw: one line `name=value` each. Called by rel_systemd.py:
#   unshare -m -p -n -f --mount-proc systemd.sh BINARY UNIT
set -u
mount --make-rprivate / && mount -t tmpfs none /run || exit 1
ip link set lo up
mkdir -p /run/systemd/system /run/o/b /run/o/bw /run/o/e /run/o/ew /run/home/run /run/home/config/systemd/user/remora.service.d
chmod 700 /run/home/run
# The unit's own paths, seen in here only.
mount -t overlay none -o lowerdir=/usr/bin,upperdir=/run/o/b,workdir=/run/o/bw /usr/bin || exit 1
mount -t overlay none -o lowerdir=/etc,upperdir=/run/o/e,workdir=/run/o/ew /etc || exit 1
cp "$1" /usr/bin/remora
mkdir -p /etc/remora
export XDG_RUNTIME_DIR=/run/home/run XDG_CONFIG_HOME=/run/home/config HOME=/run/home
# Where a user's manager makes the StateDirectory.
config() { printf 'registry: embedded\ndata_dir: /run/home/config/remora\nlifecycle: { withdraw_pause: %s }\n' "$1" > /etc/remora/remora.yaml; }
config 100ms
echo "verify=$(systemd-analyze verify "$2" 2>&1 | head -c 200)"
units=/run/home/config/systemd/user
cp "$2" $units/remora.service
printf '[Unit]\nDefaultDependencies=no\n' > $units/nothing.target
cat > $units/remora.service.d/here.conf << 'END'
[Unit]
DefaultDependencies=no
[Service]
DynamicUser=no
PrivateTmp=no
PrivateDevices=no
ProtectSystem=no
ProtectHome=no
ProtectKernelTunables=no
ProtectControlGroups=no
WatchdogSec=3
StandardOutput=file:/run/home/log
StandardError=file:/run/home/log
END
/usr/lib/systemd/systemd --user --log-target=console --unit=nothing.target > /run/home/systemd.log 2>&1 &
manager=$!
for _ in $(seq 100); do systemctl --user is-active -q nothing.target 2> /dev/null && break; sleep 0.1; done
show() { systemctl --user show remora -p "$1" --value; }
state() { echo "$1=$(show ActiveState)/$(show SubState) pid=$(show MainPID) restarts=$(show NRestarts) status=$(show StatusText)"; }
begin=$(date +%s%N)
timeout 30 systemctl --user start remora || { echo "start_failed=$?"; cat /run/home/systemd.log /run/home/log; }
# It returned because READY=1 was heard: everything answers at once.
/usr/bin/remora wait --timeout 1ms > /dev/null; echo "ready_at_once=$?"
echo "start_ms=$((($(date +%s%N) - begin) / 1000000))"
state started
first=$(show MainPID)
config 200ms
timeout 20 systemctl --user reload remora; echo "reload=$?"
echo "reload_seen=$(grep -c 'withdraw_pause\|configuration' /run/home/log)"
state reloaded
/usr/bin/remora upgrade > /run/home/upgrade 2>&1; echo "upgrade=$?"
for _ in $(seq 50); do [ "$(show MainPID)" != "$first" ] && break; sleep 0.1; done
state upgraded
second=$(show MainPID)
# The one that was started may go: the service goes on with the process that took over.
for _ in $(seq 50); do [ -d /proc/"$first" ] || break; sleep 0.1; done
echo "first_is_there=$([ -d /proc/"$first" ] && echo yes || echo no)"
kill -STOP "$second"
begin=$(date +%s%N)
for _ in $(seq 150); do [ "$(show NRestarts)" = 1 ] && [ "$(show SubState)" = running ] && break; sleep 0.1; done
echo "watchdog_ms=$((($(date +%s%N) - begin) / 1000000))"
state after_watchdog
/usr/bin/remora wait --timeout 10s > /dev/null; echo "ready_again=$?"
timeout 40 systemctl --user stop remora; echo "stop=$?"
echo "stopped=$(show ActiveState) result=$(show Result) left=$(pgrep -c -x remora)"
kill "$manager"
wait "$manager"
