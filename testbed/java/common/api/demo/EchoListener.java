// SPDX-License-Identifier: Apache-2.0
package demo;

/** Lives in the consumer, called by the provider. */
public interface EchoListener {
    void changed(String text);
}
