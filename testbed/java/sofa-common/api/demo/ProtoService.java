// SPDX-License-Identifier: Apache-2.0
package demo;

import com.google.protobuf.StringValue;

/** Served with protobuf bodies. The message is one that protobuf itself brings, so that no code need be generated. */
public interface ProtoService {
    StringValue echo(StringValue text);
}
