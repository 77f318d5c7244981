# SPDX-License-Identifier: Apache-2.0
# The demo applications of all lines. The first argument names the line: dubbo26, dubbo27, dubbo31, dubbo33, sofa56 or sofa513.
FROM maven:3.9-eclipse-temurin-17 AS build
COPY java /build
RUN mvn -q -B -f /build package

FROM eclipse-temurin:17-jre
COPY --from=build /build /app
COPY compose/app-start.sh /usr/local/bin/app-start
ENTRYPOINT ["sh", "/usr/local/bin/app-start"]
