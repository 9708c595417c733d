// A simulated accelerator: tensors live in the memory of the CPU and are computed there, but their device is another.
//
// As on CUDA, an operation refuses tensors of two devices, numpy() refuses them, and a generator must be of their
// device. So tests show on a machine without a GPU which tensors are on the wrong device. Everything else is the CPU's:
// random numbers, rounding, layouts.
//
// Most operations go through PyTorch's fallback, which copies the arguments to the CPU and the results back. Written
// out here are allocation and copying, views, and the operations that the fallback gets wrong: convolutions, which
// have their own entry for devices outside PyTorch, and batch norm, which writes its running statistics without
// saying so in its schema.
// Source: PyTorch's documentation of out-of-tree devices (PrivateUse1).

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/extension.h>
#include <torch/library.h>

namespace {

using at::IntArrayRef;
using at::Tensor;
using c10::SymInt;
using c10::SymIntArrayRef;
using OptionalTensor = std::optional<Tensor>;
constexpr auto TYPE = c10::DeviceType::PrivateUse1;
const c10::DispatchKeySet KEY(c10::DispatchKey::PrivateUse1);
c10::Device device() { return c10::Device(TYPE, 0); }

// ---- the device: memory, one stream, one generator ----

struct Allocator final : c10::Allocator {
  static void free(void* p) { c10::free_cpu(p); }
  c10::DataPtr allocate(size_t size) override {
    void* p = c10::alloc_cpu(size);
    return {p, p, &free, device()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* to, const void* from, size_t size) const override { default_copy_data(to, from, size); }
};
Allocator allocator;
REGISTER_ALLOCATOR(TYPE, &allocator);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::Stream stream() const { return c10::Stream(c10::Stream::DEFAULT, device()); }
  c10::DeviceType type() const override { return TYPE; }
  c10::Device exchangeDevice(c10::Device) const override { return device(); }
  c10::Device getDevice() const override { return device(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

void resize_storage(const c10::Storage& storage, size_t size) {
  auto data = allocator.allocate(size);
  if (storage.nbytes() > 0) memcpy(data.get(), storage.data(), std::min<size_t>(size, storage.nbytes()));
  storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(data));
  storage.unsafeGetStorageImpl()->set_nbytes(size);
}

struct Generator : at::CPUGeneratorImpl {
  Generator() {
    device_ = device();
    key_set_ = KEY;
  }
};

struct Hooks : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  void init() const override {}
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    static at::Generator generator = at::make_generator<Generator>();
    return generator;
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::make_generator<Generator>(); }
  at::Device getDeviceFromPtr(void*) const override { return device(); }
  bool isPinnedPtr(const void*) const override { return false; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(c10::DeviceType::CPU); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const override { resize_storage(storage, size); }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
};
const bool hooked = [] {
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  return true;
}();

// ---- allocation, copies, views ----

// A CPU tensor over the same memory.
Tensor on_cpu(const Tensor& t) {
  auto storage = t.storage();
  void* data = storage.mutable_data();
  auto shared = c10::Storage(
      c10::Storage::use_byte_size_t(), storage.nbytes(),
      c10::DataPtr(data, data, [](void*) {}, c10::Device(c10::kCPU)), nullptr, false);
  auto found = at::detail::make_tensor<c10::TensorImpl>(
      std::move(shared), c10::DispatchKeySet(c10::DispatchKey::CPU), t.dtype());
  found.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  return found;
}
OptionalTensor on_cpu(const OptionalTensor& t) {
  return t && t->defined() ? OptionalTensor(on_cpu(*t)) : std::nullopt;
}

Tensor empty(
    IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>,
    std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, KEY, at::dtype_or_default(dtype), format);
}

Tensor empty_strided(
    IntArrayRef size, IntArrayRef stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, KEY, at::dtype_or_default(dtype));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  at::NoGradGuard no_grad;
  auto target = to.device().type() == TYPE ? on_cpu(to) : to;
  target.copy_(from.device().type() == TYPE ? on_cpu(from) : from);
  return to;
}

// Results of the fallback: a resized `out` takes the layout of the result, any other keeps its own.
Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (from.sizes() != to.sizes()) {
    to.resize_(from.sizes());
    to.as_strided_(from.sizes(), from.strides());
  }
  return copy_from(from, to, false);
}

const Tensor& resize(const Tensor& t, IntArrayRef size, std::optional<at::MemoryFormat> format) {
  int64_t count = t.storage_offset();
  count += c10::multiply_integers(size);
  size_t bytes = count * t.dtype().itemsize();
  if (t.storage().nbytes() < bytes) resize_storage(t.storage(), bytes);
  t.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  if (format && *format != at::MemoryFormat::Contiguous && *format != at::MemoryFormat::Preserve)
    t.unsafeGetTensorImpl()->empty_tensor_restride(*format);
  return t;
}

Tensor& set_storage(Tensor& t, at::Storage storage, int64_t offset, IntArrayRef size, IntArrayRef stride) {
  t.unsafeGetTensorImpl()->set_storage_keep_dtype(storage);
  t.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset);
  return t;
}

Tensor& set_whole_storage(Tensor& t, at::Storage storage) {
  int64_t count = storage.nbytes() / t.dtype().itemsize();
  return set_storage(t, storage, 0, {count}, {1});
}

at::Scalar item(const Tensor& t) { return on_cpu(t).item(); }

// ---- operations that the fallback gets wrong ----

void check_device(const Tensor& t) {
  TORCH_CHECK(t.device() == device(), "Expected all tensors to be on ", device(), ", but found one on ", t.device());
}
void check_device(const OptionalTensor& t) {
  if (t && t->defined()) check_device(*t);
}

Tensor returned(const Tensor& result) {
  if (!result.defined()) return result;
  auto t = empty_strided(result.sizes(), result.strides(), result.scalar_type(), {}, {}, {});
  return t.numel() > 0 ? copy_from(result, t, false) : t;
}
std::tuple<Tensor, Tensor, Tensor> returned(const std::tuple<Tensor, Tensor, Tensor>& results) {
  return {returned(std::get<0>(results)), returned(std::get<1>(results)), returned(std::get<2>(results))};
}

Tensor convolution(
    const Tensor& x, const Tensor& weight, const OptionalTensor& bias, SymIntArrayRef stride, SymIntArrayRef padding,
    SymIntArrayRef dilation, bool transposed, SymIntArrayRef output_padding, SymInt groups) {
  check_device(x), check_device(weight), check_device(bias);
  return returned(at::convolution_symint(
      on_cpu(x), on_cpu(weight), on_cpu(bias), stride, padding, dilation, transposed, output_padding, groups));
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& grad, const Tensor& x, const Tensor& weight, SymIntArrayRef stride, SymIntArrayRef padding,
    SymIntArrayRef dilation, bool transposed, SymIntArrayRef output_padding, SymInt groups, std::array<bool, 3> mask) {
  check_device(grad), check_device(x), check_device(weight);
  std::vector<SymInt> bias{transposed ? weight.sym_size(1) * groups : weight.sym_size(0)};
  return returned(at::convolution_backward_symint(
      on_cpu(grad), on_cpu(x), on_cpu(weight), at::OptionalSymIntArrayRef(bias), stride, padding, dilation, transposed,
      output_padding, groups, mask));
}

std::tuple<Tensor, Tensor, Tensor> batch_norm(
    const Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias, const OptionalTensor& mean,
    const OptionalTensor& var, bool training, double momentum, double eps) {
  check_device(x), check_device(weight), check_device(bias), check_device(mean), check_device(var);
  return returned(at::native_batch_norm(
      on_cpu(x), on_cpu(weight), on_cpu(bias), on_cpu(mean), on_cpu(var), training, momentum, eps));
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_backward(
    const Tensor& grad, const Tensor& x, const OptionalTensor& weight, const OptionalTensor& mean,
    const OptionalTensor& var, const OptionalTensor& saved_mean, const OptionalTensor& saved_std, bool training,
    double eps, std::array<bool, 3> mask) {
  check_device(grad), check_device(x);
  return returned(at::native_batch_norm_backward(
      on_cpu(grad), on_cpu(x), on_cpu(weight), on_cpu(mean), on_cpu(var), on_cpu(saved_mean), on_cpu(saved_std),
      training, eps, mask));
}

// ---- the fallback for all others, which would move a tensor of the CPU without a word ----

bool indexes(const std::string& name) {  // indices may be on the CPU, as on CUDA
  return name == "aten::index" || name.rfind("aten::index_put", 0) == 0 || name.rfind("aten::_index_put", 0) == 0;
}

void on_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& name = op.operator_name().name;
  const size_t num = op.schema().arguments().size(), first = stack->size() - num;
  bool stray = false, ours = false;
  auto see = [&](const Tensor& t) {
    if (!t.defined()) return;
    ours = ours || t.device().type() == TYPE;
    stray = stray || (t.device().is_cpu() && t.dim() > 0);  // a 0-d tensor of the CPU counts as a number
  };
  for (size_t i = first; i < stack->size(); i++) {
    auto& argument = (*stack)[i];
    if (argument.isTensor()) {
      see(argument.toTensor());
    } else if (argument.isList() && !indexes(name)) {
      for (const c10::IValue& part : argument.toListRef())
        if (part.isTensor()) see(part.toTensor());
    } else if (argument.isGenerator()) {
      auto type = argument.toGenerator().device().type();
      TORCH_CHECK(type == TYPE, "Expected a generator on ", device(), ", but found one on ", type, " (", name, ")");
      argument = c10::IValue();  // draw as the CPU does
    }
  }
  TORCH_CHECK(
      !(stray && ours), "Expected all tensors to be on the same device, but found at least two, ", device(),
      " and cpu (", name, ")");
  at::native::cpu_fallback(op, stack, false, c10::DispatchKey::CPU);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("unfold", TORCH_FN(at::native::unfold));
  m.impl("resize_", &resize);
  m.impl("set_.source_Storage", &set_whole_storage);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("_local_scalar_dense", &item);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
  m.impl("native_batch_norm", &batch_norm);
  m.impl("native_batch_norm_backward", &batch_norm_backward);
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>()); }

// Mixed precision, for the operations that our models use.
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  KERNEL_PRIVATEUSEONE(conv1d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(conv2d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(convolution, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(mm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(bmm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(addmm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(cross_entropy_loss, fp32)
  KERNEL_PRIVATEUSEONE(nll_loss, fp32)
  KERNEL_PRIVATEUSEONE(log_softmax, int, fp32)
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {}
