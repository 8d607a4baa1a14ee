/* What torch's operators do to values, by their schemas and, where these do not tell, by name. */
#ifndef OPERATIONS_H
#define OPERATIONS_H

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace operations {

using Names = std::set<std::string>;

/* Their "written" arguments keep their content. */
inline const Names NO_WRITE{"aten::record_stream", "aten::resize_", "aten::set_", "aten::resize_as_", "aten::requires_grad_",
                     "aten::retain_grad", "aten::detach_", "aten::set_data"};
inline const Names WHOLE{"aten::copy_", "aten::fill_", "aten::zero_"}; /* what they write to need not be known */
inline const Names LIKE{"aten::zeros_like", "aten::ones_like", "aten::full_like", "aten::new_zeros", "aten::new_ones", "aten::new_full"};
inline const Names COUNTED{"aten::nonzero", "aten::_unique2", "aten::unique_consecutive", "aten::unique_dim"};

struct Operation {
    c10::OperatorHandle handle;
    std::string name;
    bool random, opaque; /* opaque: kernels of its own may write to what its inner ops made */
    bool makes, writes;  /* new tensors; arguments */
    std::vector<size_t> written, replaced;

    explicit Operation(const c10::OperatorHandle &found) : handle(found), name(found.schema().name()) {
        const auto &schema = found.schema();
        random = found.hasTag(at::Tag::nondeterministic_seeded);
        opaque = name.rfind("aten::", 0) != 0 || found.hasKernelForDispatchKey(c10::DispatchKey::CUDA);
        makes = name.rfind("aten::empty", 0) != 0 && name.rfind("aten::new_empty", 0) != 0;
        for (const auto &returned : schema.returns()) makes = makes && returned.alias_info() == nullptr;
        for (size_t i = 0; i < schema.arguments().size(); i++) {
            const auto &argument = schema.arguments()[i];
            bool writes = argument.alias_info() != nullptr && argument.alias_info()->isWrite() && !NO_WRITE.count(name);
            /* Batch norms do not say that they change these. */
            writes = writes || (name.find("batch_norm") != name.npos && argument.name().rfind("running_", 0) == 0);
            if (!writes) continue;
            if (name == "aten::_amp_foreach_non_finite_check_and_unscale_" && argument.name() == "found_inf") continue;
            written.push_back(i);
            if (argument.is_out() || WHOLE.count(name)) replaced.push_back(i);
        }
        writes = !written.empty();
    }
};

/* The operator that runs; NULL for what is none. */
inline const Operation *operation(const at::RecordFunction &fn) {
    static std::mutex lock;
    static std::unordered_map<const char *, std::unordered_map<const char *, std::unique_ptr<Operation>>> all;
    std::lock_guard<std::mutex> guard(lock);
    auto &found = all[fn.name()][fn.overload_name()];
    if (found == nullptr) {
        auto handle = c10::Dispatcher::singleton().findSchema({fn.name(), fn.overload_name()});
        if (!handle) return nullptr;
        found = std::make_unique<Operation>(*handle);
    }
    return found.get();
}

}  // namespace operations

#endif
