// SPDX-License-Identifier: Apache-2.0
package golden;

import com.alipay.sofa.rpc.codec.sofahessian.SofaHessianSerializer;
import com.alipay.sofa.rpc.core.request.SofaRequest;
import com.alipay.sofa.rpc.core.response.SofaResponse;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Bodies of whole calls, written by the serializer of SOFARPC. */
final class SofaCalls {
    static void write(Golden golden) throws Exception {
        Model.Order order = new Model.Order("o1");
        order.next = order;
        request(golden, "call-request-no-arguments", "ping");
        request(golden, "call-request-string", "echo", "w\u00f6rld");
        request(golden, "call-request-order", "place", order, new ArrayList<>(List.of(order, new Model.Order("o2"))), 7, 8L);

        response(golden, "call-response-value", "\"hello\"", "hello", null);
        response(golden, "call-response-null", "null", null, null);
        response(golden, "call-response-order", "Order", order, null);
        response(golden, "call-response-error", "an error message", null, "service not found");
        RuntimeException error = new RuntimeException("boom");
        error.setStackTrace(new StackTraceElement[] {new StackTraceElement("demo.Shop", "buy", "Shop.java", 17)});
        response(golden, "call-response-exception", "RuntimeException", error, null);
    }

    private static void request(Golden golden, String name, String method, Object... arguments) throws Exception {
        SofaRequest request = new SofaRequest();
        request.setTargetAppName("shop");
        request.setInterfaceName("demo.EchoService");
        request.setTargetServiceUniqueName("demo.EchoService:1.0");
        request.setMethodName(method);
        String[] signatures = new String[arguments.length];
        for (int i = 0; i < arguments.length; i++) {
            signatures[i] = arguments[i].getClass().getName();
        }
        request.setMethodArgSigs(signatures);
        request.setMethodArgs(arguments);
        Map<String, Object> trace = new HashMap<>();
        trace.put("sofaRpcId", "0");
        trace.put("sofaTraceId", "0a00000517000000000001001");
        request.addRequestProp("rpc_trace_context", trace);
        request.addRequestProp("protocol", "bolt");
        golden.save(name, "a SofaRequest for " + method, List.of(), encode(request));
    }

    private static void response(Golden golden, String name, String what, Object value, String error) throws Exception {
        SofaResponse response = new SofaResponse();
        response.setAppResponse(value);
        if (error != null) {
            response.setErrorMsg(error);
        }
        golden.save(name, "a SofaResponse with " + what, List.of(), encode(response));
    }

    private static byte[] encode(Object message) {
        return new SofaHessianSerializer().encode(message, new HashMap<>()).array();
    }
}
