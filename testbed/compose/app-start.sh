#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# app-start LINE ROLE OPTIONS...
set -e
home="/app/$1/target"
shift
exec java -Xms32m -Xmx192m -XX:+UseSerialGC -Djava.net.preferIPv4Stack=true --add-opens java.base/java.lang=ALL-UNNAMED \
    -Ddubbo.application.logger=slf4j -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "$home/classes:$home/lib/*" demo.app.Main "$@"
