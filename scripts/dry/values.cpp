/* Values in dry CUDA: what torch may be told of the card's memory, followed op by op (loaded by cudart.c when torch is there).
 *
 * Real: what is copied to the card, what is made on it without data (zeros, arange), and whatever ops compute from these: torch
 * computes it on the host as well, while it is small (contents.h). Assumed, as the estimate does (trace/known_values.py): an
 * unknown mask that is read is true throughout, unknown scores choose evenly, `randn` gives 0.5, no factorization fails and no
 * gradient is infinite. Any other number that is read and that only a kernel would have written is an error of the copy.
 *
 * An observer of the dispatcher (at::RecordFunction), as the profiler is: it changes neither which kernels run nor what they
 * allocate nor how long a tensor lives. A dispatch mode would: torch takes other ways where one is active.
 */
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/record_function.h>

#include "contents.h"
#include "operations.h"
extern "C" {
#include "host.h"
}

namespace {

using c10::DispatchKey;
using c10::IValue;
using namespace operations;
/* One running op on this thread. */
struct Frame : at::ObserverContext {
    const Operation *op;
    bool known = true, inputs = false, on_card = false; /* all it takes is known; it takes tensors; some are the card's */
    std::vector<IValue> arguments;                      /* on the host */
    std::vector<c10::StorageImpl *> written, taken;
    std::vector<std::pair<at::Tensor, at::Tensor>> replaced; /* of the card, and on the host */
    at::ScalarType read = at::kFloat;                        /* of the tensor that is read */
    size_t read_bytes = 0;
    int64_t count = -1, dim = -1;
};

thread_local std::vector<Frame *> frames;

/* Below autograd, autocast and whatever else wraps tensors, unseen by observers. */
struct OnTheHost {
    at::DisableRecordFunctionGuard unseen;
    c10::impl::ExcludeDispatchKeyGuard plain{
        c10::autograd_dispatch_keyset_with_ADInplaceOrView | c10::autocast_dispatch_keyset |
        c10::DispatchKeySet({DispatchKey::Python, DispatchKey::PythonTLSSnapshot, DispatchKey::PythonDispatcher,
                             DispatchKey::Functionalize, DispatchKey::FuncTorchDynamicLayerFrontMode,
                             DispatchKey::FuncTorchDynamicLayerBackMode, DispatchKey::FuncTorchVmapMode, DispatchKey::Tracer})};
};

void say_once(const std::string &text) {
    static std::mutex lock;
    static Names said;
    std::lock_guard<std::mutex> guard(lock);
    if (said.insert(text).second) fprintf(stderr, "dry CUDA: %s\n", text.c_str());
}

void assume(const at::Tensor &t, double value) {
    if (t.storage().nbytes() <= contents::LIMIT) contents::know(t, at::full({}, value, at::TensorOptions().dtype(t.scalar_type())));
}

/* `t` on the host, in the place of an argument; false where it is not known. */
bool take(Frame &frame, const at::Tensor &t, at::Tensor &content) {
    if (!t.defined()) return true;
    frame.inputs = true;
    frame.on_card = frame.on_card || t.is_cuda();
    if (t.has_storage()) frame.taken.push_back(contents::storage_of(t));
    content = contents::of(t);
    return content.defined();
}

bool take(Frame &frame, IValue &value) {
    if (value.isTensor()) {
        at::Tensor content;
        if (!take(frame, value.toTensor(), content)) return false;
        value = content;
    } else if (value.isTensorList()) {
        std::vector<at::Tensor> all(value.toTensorVector());
        for (auto &one : all)
            if (!take(frame, one, one)) return false;
        value = all;
    } else if (value.isOptionalTensorList()) {
        c10::List<std::optional<at::Tensor>> all;
        for (std::optional<at::Tensor> one : value.toOptionalTensorList()) {
            if (one && !take(frame, *one, *one)) return false;
            all.push_back(one);
        }
        value = all;
    } else if (value.isDevice()) {
        value = c10::Device(c10::kCPU);
    } else if (value.isGenerator() || value.isStorage() || value.isStream() || value.isObject()) {
        return false;
    }
    return true;
}

bool has(const std::vector<size_t> &places, size_t i) {
    return std::find(places.begin(), places.end(), i) != places.end();
}

/* Take the arguments; whatever is to be written is noted, and stands in by a new tensor where all of it is. */
void take_arguments(Frame &frame, c10::ArrayRef<const IValue> inputs) {
    const Operation &op = *frame.op;
    for (size_t i = 0; i < inputs.size(); i++) {
        IValue value = inputs[i];
        bool is_tensor = value.isTensor() && value.toTensor().defined() && contents::is_plain(value.toTensor());
        if (has(op.written, i)) {
            std::vector<at::Tensor> all;
            if (is_tensor) all.push_back(value.toTensor());
            if (value.isTensorList()) all = value.toTensorVector();
            for (const auto &t : all)
                if (t.defined() && t.is_cuda() && contents::is_plain(t)) frame.written.push_back(contents::storage_of(t));
        }
        if (!frame.known) continue;
        if (is_tensor && has(op.replaced, i) && value.toTensor().is_cuda() && contents::is_small(value.toTensor()) &&
            !contents::of(value.toTensor()).defined()) {
            at::Tensor made = at::empty(value.toTensor().sizes(), at::TensorOptions().dtype(value.toTensor().scalar_type()));
            frame.replaced.emplace_back(value.toTensor(), made);
            frame.on_card = true;
            value = made;
        } else if (is_tensor && i == 0 && LIKE.count(op.name)) {
            frame.on_card = frame.on_card || value.toTensor().is_cuda();
            value = at::empty({}, at::TensorOptions().dtype(value.toTensor().scalar_type())).expand(value.toTensor().sizes());
        } else {
            frame.known = take(frame, value);
        }
        frame.arguments.push_back(value);
    }
    if (!frame.known) frame.arguments.clear(), frame.replaced.clear();
}

/* What must be clear before a kernel reads: how many there are, and what an unknown mask holds. */
void prepare_reading(Frame &frame, c10::ArrayRef<const IValue> inputs) {
    const std::string &name = frame.op->name;
    size_t from = name == "aten::copy_" ? 1 : 0;
    if (inputs.size() <= from || !inputs[from].isTensor()) return;
    const at::Tensor &t = inputs[from].toTensor();
    if (!t.defined() || !t.is_cuda() || !contents::is_plain(t)) return;
    frame.read = t.scalar_type();
    frame.read_bytes = t.nbytes();
    at::Tensor content = contents::of(t);
    if (!content.defined() && name == "aten::_linalg_check_errors") assume(t, 0);
    if (name == "aten::topk" && t.dim() > 0) frame.dim = inputs[2].toInt(), frame.count = t.size(frame.dim);
    if (name != "aten::nonzero" && name != "aten::_local_scalar_dense") return;
    if (!content.defined() && frame.read == at::kBool) {
        say_once(name + " reads a mask that no kernel computed: it counts as all true");
        assume(t, 1);
        content = at::ones({}, at::TensorOptions().dtype(at::kBool)).expand(t.sizes());
    }
    if (content.defined() && name == "aten::nonzero") frame.count = at::count_nonzero(content).item<int64_t>();
}

/* How many distinct ones there are, of values that are known; of truth values CUDA counts the true ones first. */
void count_distinct(Frame &frame) {
    const std::string &name = frame.op->name;
    if (name == "aten::_unique2" && frame.read == at::kBool) {
        frame.count = at::count_nonzero(frame.arguments[0].toTensor()).item<int64_t>();
        return;
    }
    IValue dim = name == "aten::unique_dim" ? frame.arguments[1] : name == "aten::unique_consecutive" ? frame.arguments[3] : 0;
    std::vector<IValue> stack = frame.arguments;
    frame.op->handle.callBoxed(stack);
    frame.count = stack[0].toTensor().size(dim.isInt() ? dim.toInt() : 0);
}

bool concerns_the_card(const IValue &value) {
    if (value.isTensor()) return value.toTensor().defined() && value.toTensor().is_cuda();
    if (value.isDevice()) return value.toDevice().is_cuda();
    if (value.isTensorList() || value.isOptionalTensorList()) return !value.toListRef().empty();
    return false;
}

std::unique_ptr<at::ObserverContext> start(const at::RecordFunction &fn) {
    auto inputs = fn.inputs();
    if (!std::any_of(inputs.begin(), inputs.end(), concerns_the_card)) return nullptr;
    auto frame = std::make_unique<Frame>();
    frame->op = operation(fn);
    if (frame->op == nullptr) return nullptr;
    try {
        OnTheHost guard;
        prepare_reading(*frame, inputs);
        frame->known = frame->op->name.rfind("aten::", 0) == 0;
        take_arguments(*frame, inputs);
        if (frame->known && frame->count < 0 && COUNTED.count(frame->op->name)) count_distinct(*frame);
    } catch (const std::exception &) {
        frame->known = false;
    }
    frames.push_back(frame.get());
    return frame;
}

/* The first tensor of `made` on the card or the host now holds `content`. */
void hand_over(const at::Tensor &made, const at::Tensor &content) {
    if (!made.defined() || !content.defined() || !contents::is_plain(made) || made.sizes() != content.sizes()) return;
    if (made.is_cuda())
        contents::know(made, content);
    else if (made.data_ptr() != content.data_ptr())
        at::Tensor(made).copy_(content);
}

std::vector<at::Tensor> tensors(const std::vector<IValue> &values) {
    std::vector<at::Tensor> all;
    for (const auto &value : values) {
        if (value.isTensor()) all.push_back(value.toTensor());
        if (value.isTensorList())
            for (const auto &one : value.toTensorVector()) all.push_back(one);
    }
    return all;
}

/* Indices of unknown scores: spread evenly over what can be chosen. */
void choose_evenly(const at::Tensor &chosen, int64_t dim, int64_t size) {
    if (!contents::is_small(chosen) || size <= 0) return;
    at::Tensor numbers = at::arange(chosen.numel(), at::kLong).remainder(size);
    hand_over(chosen, numbers.view(chosen.transpose(dim, -1).sizes()).transpose(dim, -1));
}

/* What is made new. A part of an argument (`unsafe_split` says that it is new) is known with it. */
void end_made(Frame &frame, const at::RecordFunction &fn, bool inside) {
    std::vector<at::Tensor> made = tensors(fn.outputs());
    bool small = frame.known && !frame.op->writes && (!inside || frame.inputs), card = frame.on_card;
    for (const auto &t : made) {
        if (!t.defined() || !contents::is_plain(t)) return;
        if (!t.is_cuda()) continue;
        if (std::find(frame.taken.begin(), frame.taken.end(), contents::storage_of(t)) != frame.taken.end()) return;
        card = true;
        small = small && contents::is_small(t);
        contents::forget(contents::storage_of(t));
    }
    if (made.empty() || !card) return;
    if (frame.op->name == "aten::randn" && contents::is_small(made[0])) assume(made[0], 0.5);
    if (!small || frame.op->random) return;
    frame.op->handle.callBoxed(frame.arguments);
    std::vector<at::Tensor> content = tensors(frame.arguments);
    for (size_t i = 0; i < made.size() && content.size() == made.size(); i++) hand_over(made[i], content[i]);
}

void end_written(Frame &frame, bool inside) {
    bool follow = frame.known && frame.on_card && !frame.op->random && !(inside && !frame.inputs);
    for (const auto &[real, content] : frame.replaced) follow = follow && contents::covers(real);
    if (follow) {
        try {
            frame.op->handle.callBoxed(frame.arguments);
            for (const auto &[real, content] : frame.replaced) hand_over(real, content);
            return;
        } catch (const std::exception &) {
        }
    }
    for (auto *storage : frame.written) contents::forget(storage);
}

/* A copy in pinned memory of weights that nobody wrote is zeros: it takes no RAM, as they take none. */
void end_pinned(const at::RecordFunction &fn) {
    for (const auto &t : tensors(fn.outputs()))
        if (t.is_cpu()) host_give_back_zeros(t.storage().mutable_data(), t.storage().nbytes());
}

void end(const at::RecordFunction &fn, at::ObserverContext *context) {
    if (strcmp(fn.name(), "aten::_pin_memory") == 0) end_pinned(fn);
    auto *frame = static_cast<Frame *>(context);
    if (frame == nullptr) return;
    frames.pop_back();
    /* Inside an op of its own kernels, what an inner op fills without an input may be written again unseen. */
    bool inside = false, redone = false;
    for (const Frame *outer : frames) {
        inside = inside || outer->op->opaque;
        redone = redone || (outer->op->writes && outer->known);
    }
    try {
        OnTheHost guard;
        bool failed = fn.outputs().empty() && !frame->op->handle.schema().returns().empty();
        frame->known = frame->known && !failed;
        if (frame->op->writes && !redone) end_written(*frame, inside);
        if (frame->op->makes) end_made(*frame, fn, inside);
        if (frame->op->name == "aten::topk" && !frame->known && frame->read_bytes > 0)
            choose_evenly(fn.outputs().at(1).toTensor(), frame->dim, frame->count);
    } catch (const std::exception &) { /* unknown: what it made was forgotten before */
    }
}

int refuse(const char *op, const char *why) {
    say_once(std::string(op) + " reads " + why + ": the copy fails");
    return HOST_REFUSED;
}

/* The op that reads how many there are: itself, or through `item`. */
const Frame *counting_frame() {
    for (auto at = frames.rbegin(); at != frames.rend(); at++) {
        const std::string &name = (*at)->op->name;
        if (COUNTED.count(name)) return (*at)->count >= 0 ? *at : nullptr;
        if (name != "aten::_local_scalar_dense" && name != "aten::item") return nullptr;
    }
    return nullptr;
}

/* What a copy to the host of memory that no one knows gives. */
int read(void *to, const void *from, size_t bytes) {
    if (contents::read(to, from, bytes)) return HOST_READ;
    if (frames.empty()) return refuse("a program", "memory of the card whose content is unknown");
    const Frame &frame = *frames.back(), *counting = counting_frame();
    const std::string &name = frame.op->name;
    if (counting != nullptr && (bytes == 4 || bytes == 8)) {
        memcpy(to, &counting->count, bytes); /* little-endian */
        return HOST_READ;
    }
    bool copies = name == "aten::copy_", small = frame.read_bytes <= contents::LIMIT;
    if (frame.read == at::kBool && (copies || name == "aten::_local_scalar_dense")) {
        memset(to, 1, bytes);
        return HOST_READ;
    }
    if (!copies) return refuse(name.c_str(), "a number that only a kernel would have written");
    if (at::isIntegralType(frame.read, false) && c10::elementSize(frame.read) > 1 && small)
        return refuse(name.c_str(), "whole numbers that only a kernel would have written");
    if (frame.read_bytes > contents::SMALL || c10::elementSize(frame.read) == 1) return HOST_UNKNOWN;
    OnTheHost guard;
    at::from_blob(to, {(int64_t)(bytes / c10::elementSize(frame.read))}, at::TensorOptions().dtype(frame.read)).fill_(NAN);
    return HOST_READ;
}

/* A program's own kernel, outside torch's ops, may write anywhere. */
void launching() {
    if (!frames.empty()) return;
    say_once("a kernel starts outside torch's operators: from here no value that was copied before is known");
    contents::forget_all();
}

const bool ready = [] {
    host_reader = read;
    host_launching = launching;
    at::addGlobalCallback(
        at::RecordFunctionCallback(start, end).needsInputs(true).needsOutputs(true).scopes({at::RecordScope::FUNCTION}));
    return true;
}();

}  // namespace
