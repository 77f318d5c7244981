// SPDX-License-Identifier: Apache-2.0
package golden;

import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.lang.reflect.Method;

/** The output class of the library under test. The libraries differ in package names only, hence reflection. */
final class Out {
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    private final Object output;

    private Out(String className) throws Exception {
        output = Class.forName(className).getConstructor(OutputStream.class).newInstance(bytes);
    }

    /** A fresh writer, so with empty tables. */
    static Out of(String library) throws Exception {
        String root = library.startsWith("hessian-lite") ? "com.alibaba.com.caucho" : "com.caucho";
        return new Out(root + ".hessian.io.Hessian2Output");
    }

    Out object(Object value) throws Exception {
        return call("writeObject", Object.class, value);
    }

    Out string(String value) throws Exception {
        return call("writeString", String.class, value);
    }

    Out number(int value) throws Exception {
        return call("writeInt", int.class, value);
    }

    /** Writes the list head for a list of unknown length, so that the caller writes items and `listEnd`. */
    Out listBegin(String type) throws Exception {
        Method method = output.getClass().getMethod("writeListBegin", int.class, String.class);
        method.invoke(output, -1, type);
        return this;
    }

    Out listEnd() throws Exception {
        output.getClass().getMethod("writeListEnd").invoke(output);
        return this;
    }

    byte[] bytes() throws Exception {
        output.getClass().getMethod("flush").invoke(output);
        return bytes.toByteArray();
    }

    private Out call(String name, Class<?> type, Object value) throws Exception {
        output.getClass().getMethod(name, type).invoke(output, value);
        return this;
    }
}
