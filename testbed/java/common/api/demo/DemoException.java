// SPDX-License-Identifier: Apache-2.0
package demo;

public class DemoException extends Exception {
    private static final long serialVersionUID = 1L;
    private int code;

    public DemoException() {}

    public DemoException(String message, int code) {
        super(message);
        this.code = code;
    }

    public int getCode() {
        return code;
    }

    public void setCode(int code) {
        this.code = code;
    }
}
