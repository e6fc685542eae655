# Trireme's one Makefile: non-recursive, out of tree. `make help` lists the targets.
#
#   V=1            show commands                SAN=address,undefined | thread   a sanitizer build
#   BUILD=DIR      another tree                 WERROR=1                         warnings are errors
#   LANES=N        tests side by side (2)
#   CUDA=auto|0|1  GPU backend                  PREFIX=, DESTDIR=                for install

.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules

SAN    ?=
CUDA   ?= auto
WERROR ?= 0
V      ?= 0
LANES  ?= 2
PREFIX ?= /usr/local
comma  := ,
BUILD  ?= build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))
PYTHON ?= /usr/bin/python3
CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
Q      := $(if $(filter 1,$(V)),,@)

# ---- what is here -------------------------------------------------------------------------------
ROOMS := core wire spec kernels client tracker coordinator worker serving
$(foreach r,$(filter-out client kernels,$(ROOMS)),$(eval $r_srcs := $(wildcard $r/*.c $r/*/*.c)))
client_srcs  := $(wildcard client/*.c)
cli_srcs     := $(wildcard client/cli/*.c)
kernels_srcs := $(wildcard kernels/*.c $(foreach d,graph host run cpu,kernels/$d/*.c)) kernels/cuda/traits.c

# Which rooms a room may use (tools/layers.py checks the includes against the same list).
wire_uses        := core
spec_uses        := core
kernels_uses     := spec core
client_uses      := wire core
tracker_uses     := wire core
coordinator_uses := spec wire core
worker_uses      := kernels spec wire core
serving_uses     := kernels spec wire core

client_exe      := trireme
tracker_exe     := trireme-tracker
coordinator_exe := trireme-coordinator
worker_exe      := trireme-worker
serving_exe     := trireme-export
EXE_ROOMS       := $(foreach r,tracker coordinator worker serving,$(if $(wildcard $r/main.c),$r))
EXES            := $(BUILD)/bin/$(client_exe) $(foreach r,$(EXE_ROOMS),$(BUILD)/bin/$($r_exe))

# ---- flags --------------------------------------------------------------------------------------
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wvla -Wundef -Wcast-qual -Wwrite-strings -Wformat=2 -Wimplicit-fallthrough \
        -Wswitch-enum -Wdouble-promotion -fno-common $(if $(filter 1,$(WERROR)),-Werror)
HARD := -fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE \
        $(if $(SAN),,-D_FORTIFY_SOURCE=3)
SANF := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
OPT  := $(if $(SAN),-O1,-O2) -g
ifeq ($(SAN),thread)
export TSAN_OPTIONS ?= suppressions=$(abspath tools/tsan.supp) history_size=4
endif
ALL_CFLAGS  = -std=c17 -D_GNU_SOURCE -I. $(OPT) $(WARN) $(HARD) $(SANF) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now $(SANF) $(LDFLAGS)

# The arithmetic of kernels/ must not depend on where a loop is cut: no contraction, no errno.
kernels_cflags := -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math
worker_cflags   = $(MPI_CFLAGS)
MPI_CFLAGS      = $(shell pkg-config --cflags ompi-c 2>/dev/null | sed 's/-I/-isystem /g')
MPI_LIBS        = $(shell pkg-config --libs ompi-c 2>/dev/null)

core_libs        := -lyaml -ljansson -lcrypto
wire_libs        := -lzmq -lm -lpthread
spec_libs        := -lm
kernels_libs     := -ldnnl -lm
tracker_libs     := -llmdb -lzstd -lpthread
client_libs      := -lm -lpthread
coordinator_libs := -lm
worker_libs       = $(MPI_LIBS) -lz -lm -lpthread $(if $(HAVE_CUDA),-Wl$(comma)-rpath$(comma)$(CUDA_HOME)/lib64:$(CUDA_HOME)/lib)
serving_libs     := -lm

libs_of = $(foreach x,$1 $(foreach r,$1,$($r_uses)),$(BUILD)/lib/lib$x.a)
syslibs_of = $(foreach x,$1 $(foreach r,$1,$($r_uses)),$($x_libs))
objs_of = $(patsubst %.c,$(BUILD)/obj/%.o,$1)

# ---- the GPU backend ----------------------------------------------------------------------------
# CUDA=auto builds it where there is a toolkit with cuDNN and NCCL's header; CUDA=1 insists; CUDA=0
# leaves it out. The toolkit: CUDA_HOME, or what `make deps CUDA=1` brought, or /usr/local/cuda.
CUDA_ARCH ?= 80;90a
CUDA_HOME ?= $(firstword $(wildcard build/cuda /usr/local/cuda))
NVCC      := $(firstword $(wildcard $(CUDA_HOME)/bin/nvcc))
CUDA_GAPS := $(strip $(if $(NVCC),,nvcc) $(foreach h,cublasLt.h cudnn.h nccl.h,$(if $(wildcard $(CUDA_HOME)/include/$h),,$h)))
ifeq ($(CUDA),1)
ifneq ($(CUDA_GAPS),)
ifeq ($(filter deps help clean,$(MAKECMDGOALS)),)
$(error CUDA=1: $(CUDA_GAPS) not found in '$(CUDA_HOME)': set CUDA_HOME, or run `make deps CUDA=1`)
endif
endif
endif
HAVE_CUDA := $(if $(filter 0,$(CUDA)),,$(if $(CUDA_GAPS),,1))

CUDA_C     := $(wildcard kernels/cuda/*.c)
CUDA_CU    := $(wildcard kernels/cuda/*.cu)
CUDA_HOST  := kernels/graph/operators.c kernels/run/update.c core/arena.c core/buf.c core/clock.c core/status.c core/value.c
semicolon  := ;
CUDA_ARCHS := $(subst $(semicolon), ,$(CUDA_ARCH))
CUDA_PTX   := $(patsubst %a,%,$(lastword $(CUDA_ARCHS)))
CUDA_GEN   := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$a$(comma)code=sm_$a) \
              -gencode arch=compute_$(CUDA_PTX)$(comma)code=compute_$(CUDA_PTX)
CUDA_INC   := -isystem $(CUDA_HOME)/include
NVCC_FLAGS := -std=c++17 -O3 --fmad=false -I. $(CUDA_GEN) -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra
worker_cflags += $(if $(HAVE_CUDA),-DTRIREME_NCCL $(CUDA_INC))
CUDA_LIB   := $(if $(HAVE_CUDA),$(BUILD)/lib/libtrireme-cuda.so)

# ---- help ---------------------------------------------------------------------------------------
.PHONY: all help deps deps-check
help: ## this list
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

all: deps-check ## build the executables into build/bin and the client library into build/lib
	$(Q)$(MAKE) --no-print-directory build

deps: ## install the packages Trireme needs (apt; sudo when not root); CUDA=1: NVIDIA's toolkit too
	$(Q)CUDA='$(CUDA)' CUDA_GAPS='$(CUDA_GAPS)' tools/deps.sh install

deps-check:
	$(Q)CUDA='$(CUDA)' CUDA_GAPS='$(CUDA_GAPS)' tools/deps.sh check

# ---- build --------------------------------------------------------------------------------------
.PHONY: build
build: $(EXES) $(BUILD)/lib/libtrireme.a $(CUDA_LIB)

# Objects depend on the flags they were made with.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(if $(HAVE_CUDA),$(NVCC_FLAGS))' | cmp -s - $@ || \
	    echo '$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(if $(HAVE_CUDA),$(NVCC_FLAGS))' > $@
.PHONY: FORCE
FORCE:

# The build's own digest: what replay compares (sources and flags).
BUILD_ID_SRCS := $(foreach r,core wire spec kernels worker,$($r_srcs) $(wildcard $r/*.h $r/*/*.h)) $(wildcard kernels/cuda/*)
$(BUILD)/build_id.c: $(BUILD_ID_SRCS) $(BUILD)/flags
	$(Q)id=$$(cat $(sort $(BUILD_ID_SRCS)) $(BUILD)/flags | sha256sum | cut -d' ' -f1); \
	printf '#include "core/version.h"\nconst char trireme_build_id[] = "%s";\n' $$id > $@.tmp; \
	cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@
$(BUILD)/obj/build_id.o: $(BUILD)/build_id.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

define room_rules
$(BUILD)/obj/$1/%.o: $1/%.c $(BUILD)/flags
	@mkdir -p $$(@D)
	@$(if $(filter 1,$(V)),:,echo "  CC  $$<")
	$(Q)$(CC) $$(ALL_CFLAGS) $$($1_cflags) -MMD -MP -c -o $$@ $$<
$(BUILD)/lib/lib$1.a: $(call objs_of,$(filter-out %/main.c,$($1_srcs))) $(if $(filter core,$1),$(BUILD)/obj/build_id.o)
	@mkdir -p $$(@D)
	$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_rules,$r)))

define exe_rules
$(BUILD)/bin/$($1_exe): $(BUILD)/obj/$1/main.o $(call libs_of,$1)
	@mkdir -p $$(@D)
	@$(if $(filter 1,$(V)),:,echo "  LD  $$@")
	$(Q)$(CC) $$(ALL_LDFLAGS) -o $$@ $$^ $$(call syslibs_of,$1)
endef
$(foreach r,$(EXE_ROOMS),$(eval $(call exe_rules,$r)))

# The command: client/cli/ is not part of the library.
$(BUILD)/bin/$(client_exe): $(call objs_of,$(cli_srcs)) $(call libs_of,client spec)
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),:,echo "  LD  $@")
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(call syslibs_of,client spec)

# The same without main, for its unit tests: an archive, of which a test takes what it needs.
$(BUILD)/lib/libcli.a: $(call objs_of,$(filter-out %/main.c,$(cli_srcs)))
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^

# What users link: client, wire and core in one object that shows trireme_* alone.
$(BUILD)/lib/libtrireme.a: $(call libs_of,client)
	$(Q)ld -r -o $(BUILD)/lib/trireme.o --whole-archive $^ && \
	objcopy --wildcard --keep-global-symbol='trireme_*' $(BUILD)/lib/trireme.o && \
	rm -f $@ && ar rcs $@ $(BUILD)/lib/trireme.o && rm $(BUILD)/lib/trireme.o

# The GPU backend: a shared object with its own copy of what it needs of core and kernels. It links
# the CUDA runtime in and never the driver's libcuda.
$(BUILD)/obj/pic/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),:,echo "  CC  $< (pic)")
	$(Q)$(CC) $(filter-out -fPIE,$(ALL_CFLAGS)) $(kernels_cflags) -fPIC -fvisibility=hidden $(CUDA_INC) -MMD -MP -c -o $@ $<
$(BUILD)/obj/pic/kernels/cuda/backend.o: private CFLAGS += -DTRIREME_CUDA_ARCH='"$(CUDA_ARCH)"'
$(BUILD)/obj/pic/%.cu.o: %.cu $(BUILD)/flags
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),:,echo "  NVCC $<")
	$(Q)$(NVCC) $(NVCC_FLAGS) -MD -MF $(@:.o=.d) -c -o $@ $<
$(BUILD)/obj/pic/build_id.o: $(BUILD)/build_id.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -fPIE,$(ALL_CFLAGS)) -fPIC -fvisibility=hidden -c -o $@ $<
CUDA_OBJS := $(patsubst %.c,$(BUILD)/obj/pic/%.o,$(CUDA_C) $(CUDA_HOST)) \
             $(patsubst %.cu,$(BUILD)/obj/pic/%.cu.o,$(CUDA_CU)) $(BUILD)/obj/pic/build_id.o
$(BUILD)/lib/libtrireme-cuda.so: $(CUDA_OBJS)
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),:,echo "  LD  $@")
	$(Q)$(CC) -shared $(filter-out -pie,$(ALL_LDFLAGS)) -Wl,--no-undefined -Wl,--gc-sections -o $@ $^ \
	    -L$(CUDA_HOME)/lib64 -L$(CUDA_HOME)/lib -Wl,-rpath,$(CUDA_HOME)/lib64:$(CUDA_HOME)/lib \
	    -lcublasLt -lcudnn -lcudart_static -lstdc++ -lpthread -ldl -lrt -lm

# The same sources for the host, against stand-ins of the CUDA libraries: what the backend asks for
# is done by the CPU, kernel by kernel, thread by thread (tests/standin/README.md).
STANDIN      := $(BUILD)/standin
STANDIN_C    := $(filter-out %.cu.o,$(CUDA_OBJS))
STANDIN_CU   := $(patsubst %.cu,$(STANDIN)/obj/%.cu.o,$(CUDA_CU))
STANDIN_LIBS := $(foreach l,cudart.so.13 cublasLt.so.13 cudnn.so.9 nccl.so.2,$(STANDIN)/lib/lib$l)
STANDIN_ALL  := $(if $(HAVE_CUDA),$(STANDIN)/lib/libtrireme-cuda.so $(STANDIN_LIBS))
$(STANDIN)/obj/%.cu.o: %.cu tests/standin/device_on_host.h tests/standin/standin.h $(BUILD)/flags
	@mkdir -p $(@D)
	@$(if $(filter 1,$(V)),:,echo "  CXX $< (stand-in)")
	$(Q)$(CXX) -x c++ -std=c++17 -O2 -g -ffp-contract=off -fPIC -fvisibility=hidden -Wall -Wextra -I. $(CUDA_INC) \
	    -include tests/standin/device_on_host.h -MMD -MP -c -o $@ $<
$(STANDIN)/lib/libcudart.so.13: $(wildcard tests/standin/*.cpp) tests/standin/runtime.h tests/standin/standin.h
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++17 -O2 -g -fPIC -Wall -Wextra -I. $(CUDA_INC) -shared -Wl,-soname,$(@F) -o $@ $(filter %.cpp,$^) -lpthread
$(STANDIN)/lib/libcublasLt.so.13: tests/standin/cublaslt.c $(STANDIN)/lib/libcudart.so.13
	$(Q)$(CC) -std=gnu17 -O3 -march=x86-64-v3 -g -fPIC -Wall -Wextra -I. $(CUDA_INC) -shared -Wl,-soname,$(@F) -o $@ $^ -lm
$(STANDIN)/lib/libcudnn.so.9: tests/standin/cudnn.c tests/standin/cudnn_engines.h $(STANDIN)/lib/libcudart.so.13
	$(Q)$(CC) -std=gnu17 -O3 -march=x86-64-v3 -g -fPIC -Wall -Wextra -I. $(CUDA_INC) -shared -Wl,-soname,$(@F) -o $@ $(filter-out %.h,$^) -lm
$(STANDIN)/lib/libnccl.so.2: tests/standin/nccl.c $(STANDIN)/lib/libcudart.so.13
	$(Q)$(CC) -std=gnu17 -O2 -g -fPIC -Wall -Wextra -I. $(CUDA_INC) $(MPI_CFLAGS) -shared -Wl,-soname,$(@F) -o $@ $^ $(MPI_LIBS)
$(STANDIN)/lib/libtrireme-cuda.so: $(STANDIN_C) $(STANDIN_CU) $(filter-out %nccl.so.2,$(STANDIN_LIBS))
	@$(if $(filter 1,$(V)),:,echo "  LD  $@")
	$(Q)$(CC) -shared $(filter-out -pie,$(ALL_LDFLAGS)) -Wl,--no-undefined -Wl,-rpath,'$$ORIGIN' -o $@ $^ -lstdc++ -lpthread -lm
.PHONY: standin
standin: $(STANDIN_ALL)
	@:

# ---- tests --------------------------------------------------------------------------------------
# tests/unit/<room>/test_x.c links that room and what it may use; sim, fuzz and bench say their room
# the same way: tests/<kind>/<room>/x.c. Those of the client test its command, too.
test_libs_of = $(if $(filter client,$1),$(BUILD)/lib/libcli.a $(call libs_of,client spec),$(call libs_of,$1))
TEST_SRCS := $(foreach k,unit sim fuzz bench,$(wildcard tests/$k/*/*.c))
TEST_EXES := $(patsubst %.c,$(BUILD)/%,$(TEST_SRCS))
UNIT_EXES := $(filter $(BUILD)/tests/unit/%,$(TEST_EXES))
SIM_EXES  := $(filter $(BUILD)/tests/sim/%,$(TEST_EXES))
FUZZ_EXES := $(filter $(BUILD)/tests/fuzz/%,$(TEST_EXES))
BENCH_EXES := $(filter $(BUILD)/tests/bench/%,$(TEST_EXES))

define test_rules
$(BUILD)/tests/$1/$2/%: tests/$1/$2/%.c $(call test_libs_of,$2) $(BUILD)/flags
	@mkdir -p $$(@D)
	@$(if $(filter 1,$(V)),:,echo "  CC  $$<")
	$(Q)$(CC) $$(ALL_CFLAGS) $(if $(filter worker,$2),$$(worker_cflags)) -MMD -MP $$(ALL_LDFLAGS) -o $$@ $$< $(call test_libs_of,$2) $$(call syslibs_of,$2) $(if $(filter bench,$1),,-lcmocka)
endef
$(foreach k,unit sim fuzz bench,$(foreach r,$(ROOMS),$(eval $(call test_rules,$k,$r))))

.PHONY: test tests unit sim fuzz e2e unit-exes sim-exes fuzz-exes
SKIPPED := $(BUILD)/skipped
E2E_MARK ?= not proof
export LANES
lanes    = $(if $(filter-out 1,$(LANES)),$(if $(shell $(PYTHON) -c 'import xdist; print(1)' 2>&1 | grep -x 1),-n $(LANES) \
           --dist loadfile,$(info no pytest-xdist (make deps brings it): one test after the other)))
pytest   = TRIREME_BIN=$(abspath $(BUILD)/bin) TRIREME_TEST_CFLAGS='$(SANF)' $(PYTHON) -m pytest -q -p no:cacheprovider
tests: $(TEST_EXES) $(STANDIN_ALL)
unit-exes: $(UNIT_EXES) $(STANDIN_ALL)
sim-exes: $(SIM_EXES)
fuzz-exes: $(FUZZ_EXES)

unit: build ## unit tests (cmocka); UNIT=name runs one, UNIT='name name' some
	$(Q)$(MAKE) --no-print-directory unit-exes
	$(Q)SKIPPED=$(SKIPPED)/unit.tsv tools/run-tests.sh $(if $(UNIT),$(filter $(addprefix %/test_,$(UNIT)),$(UNIT_EXES)),$(UNIT_EXES))

sim: ## the coordinator's core under simulated groups and faults; SEED=n repeats one
	$(Q)$(MAKE) --no-print-directory sim-exes
	$(Q)SKIPPED=$(SKIPPED)/sim.tsv tools/run-tests.sh $(SIM_EXES)

fuzz: ## hostile input for parsers and the wire, a bounded number of rounds
	$(Q)$(MAKE) --no-print-directory fuzz-exes
	$(Q)SKIPPED=$(SKIPPED)/fuzz.tsv tools/run-tests.sh $(FUZZ_EXES)

e2e: build ## real processes, from outside (pytest); E2E=expression selects
	$(Q)$(MAKE) --no-print-directory standin
	$(Q)rc=0; SKIPPED=$(abspath $(SKIPPED))/e2e.tsv $(pytest) $(lanes) tests/e2e -m '$(E2E_MARK)' $(if $(E2E),-k '$(E2E)') || rc=$$?; \
	$(if $(PART),,tools/skipped.py $(SKIPPED) e2e;) exit $$rc

.PHONY: test-peers proof chaos mutants
test-peers: deps-check ## whole nets beside PyTorch, step by step (PyPI, build/peers)
	$(Q)$(MAKE) --no-print-directory build
	$(Q)BUILD=build $(PYTHON) tests/bench/bench.py --install-peers torch numpy
	$(Q)$(MAKE) --no-print-directory e2e E2E=pytorch E2E_MARK=proof

# The toolkit may only be there once deps.sh has brought it: whatever depends on it is asked of another make.
PROOF_UNITS := damage json $(if $(filter 0,$(CUDA)),,cuda cuda_operators cuda_warm exchange_queue loader trainer_gpu)
PROOF_MARK  := proof$(if $(filter 0,$(CUDA)),, or toolkit)
proof: ## what `make test` leaves out, and long forms of it, as root, in half an hour; brings Slurm, PyTorch, a CUDA toolkit; skips nothing but a GPU
	$(Q)CUDA='$(CUDA)' CUDA_GAPS='$(CUDA_GAPS)' tools/deps.sh proof
	$(Q)BUILD=build $(PYTHON) tests/bench/bench.py --install-peers torch numpy
	$(Q)$(MAKE) --no-print-directory build tests
	$(Q)rm -rf $(SKIPPED); failed=; part() { echo "proof: $$*"; $(MAKE) --no-print-directory PART=1 "$$@" || failed="$$failed $$1"; }; \
	$(if $(filter 0,$(CUDA)),,part engines CUDA=1;) \
	part unit TRIREME_DAMAGE=300 LOCPATH=build/locale UNIT='$(PROOF_UNITS)'; \
	part unit SAN=address,undefined CUDA=0; \
	part chaos CHAOS_ROUNDS=$(or $(CHAOS_ROUNDS),40); \
	part e2e LANES=1 E2E_MARK='$(PROOF_MARK)'; \
	tools/skipped.py --gpu-only $(SKIPPED) || failed="$$failed skipped"; \
	[ -z "$$failed" ] || { echo "proof: failed:$$failed"; exit 1; }; echo "proof: passed"

chaos: build ## kills, stops, tiny disks, failing writes on real sweeps; CHAOS_ROUNDS=200 CHAOS_SEED=n repeats, CHAOS_ONLY=n one round
	$(Q)SKIPPED=$(SKIPPED)/chaos.tsv TRIREME_BIN=$(abspath $(BUILD)/bin) CHAOS_ROUNDS='$(CHAOS_ROUNDS)' CHAOS_SEED='$(CHAOS_SEED)' CHAOS_ONLY='$(CHAOS_ONLY)' \
	$(PYTHON) tests/chaos/chaos.py

mutants: build ## plant faults and count those that no test notices; MUTANTS=200 SEED=1 ROOM=; hours, goes on where it was
	$(Q)nice -n 19 $(PYTHON) tools/mutants.py --build $(BUILD) --count $(or $(MUTANTS),200) --seed $(or $(SEED),1) --room '$(ROOM)'

test: deps-check ## everything: layers, circles, sizes, style, unit, sim, fuzz, e2e; ends with what was skipped and why
	$(Q)$(MAKE) --no-print-directory build tests
	$(Q)rm -rf $(SKIPPED); rc=0; \
	for part in layers circles sizes style unit sim fuzz e2e; do $(MAKE) --no-print-directory $$part PART=1 || { rc=1; break; }; done; \
	tools/skipped.py $(SKIPPED); exit $$rc

# ---- demonstration and measurement --------------------------------------------------------------
.PHONY: demo bench bench-peers
demo: deps-check ## a 12-trial sweep on Fashion-MNIST, replay of the best run, export to ONNX
	$(Q)$(MAKE) --no-print-directory build
	$(Q)BUILD=$(BUILD) tools/demo.sh

bench: deps-check ## benchmarks: a table, and build/bench.json
	$(Q)$(MAKE) --no-print-directory build $(BENCH_EXES)
	$(Q)BUILD=$(BUILD) $(PYTHON) tests/bench/bench.py

bench-peers: deps-check ## the same beside PyTorch, Ray Tune, Optuna and MLflow (PyPI, build/peers)
	$(Q)$(MAKE) --no-print-directory build $(BENCH_EXES)
	$(Q)BUILD=$(BUILD) $(PYTHON) tests/bench/bench.py --peers

# NVIDIA's cuDNN itself, without a GPU: tests/engines/cudnn.c.
$(BUILD)/tests/engines/cudnn: tests/engines/cudnn.c kernels/cuda/dnn.c kernels/cuda/dnn_plan.c kernels/cuda/cache.c kernels/graph/operators.c $(BUILD)/lib/libcore.a
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE -I. $(CUDA_INC) -O1 -Wall -Wextra -o $@ $(filter-out %dnn_plan.c,$^) \
	    -L$(CUDA_HOME)/lib64 -L$(CUDA_HOME)/lib -Wl,-rpath,$(CUDA_HOME)/lib64:$(CUDA_HOME)/lib -lcudnn $(core_libs)
.PHONY: engines
engines: $(if $(HAVE_CUDA),$(BUILD)/tests/engines/cudnn) ## whether cuDNN has an engine for each convolution: needs the toolkit, and no GPU
	$(Q)$(if $(HAVE_CUDA),$<,echo "engines: no CUDA toolkit here: make deps CUDA=1" && exit 1)

.PHONY: test-gpu bench-gpu gpu-pack
test-gpu: deps-check ## unit and end-to-end tests on this machine's GPU; says so where there is none
	$(Q)$(MAKE) --no-print-directory build unit-exes
	$(Q)GPU_RUN_S=3600 PYTHON=$(PYTHON) tools/gpu-run.sh tests --build $(BUILD)

bench-gpu: deps-check ## training on this machine's GPU beside PyTorch: a table, and build/bench-gpu.json
	$(Q)$(MAKE) --no-print-directory build $(BUILD)/tests/bench/worker/bench_train
	$(Q)GPU_RUN_S=3600 OUT=$(BUILD) PYTHON=$(PYTHON) tools/gpu-run.sh bench --build $(BUILD)

gpu-pack: ## one file that carries tests and benchmarks to a bare machine with a GPU (docs/GPU.md)
	$(Q)CUDA='$(CUDA)' CUDA_GAPS='$(CUDA_GAPS)' tools/deps.sh pack
	$(Q)$(MAKE) --no-print-directory build $(filter %/test_cuda %/test_cuda_operators %/test_cuda_warm,$(UNIT_EXES)) \
	    $(BUILD)/tests/bench/worker/bench_train
	$(Q)BUILD=$(BUILD) tools/gpu-pack.sh

# ---- hygiene ------------------------------------------------------------------------------------
C_FILES := $(foreach r,$(ROOMS),$(wildcard $r/*.[ch] $r/*/*.[ch] $r/*/*.cu $r/*/*.cuh)) \
           $(wildcard tests/*/*/*.[ch] tests/standin/*.[ch] tests/standin/*.cpp tests/chaos/*.c)
.PHONY: layers circles sizes style format format-check lint docs
layers: ## who includes whom
	$(Q)$(PYTHON) tools/layers.py

circles: build ## files that need each other, by includes and by symbols
	$(Q)$(PYTHON) tools/circles.py $(BUILD)

sizes: ## lines of files and functions, parameters
	$(Q)$(PYTHON) tools/sizes.py

style: ## what docs/STYLE.md asks and no compiler sees
	$(Q)$(PYTHON) tools/style.py

format: ## clang-format every C file
	$(Q)clang-format-14 -i $(C_FILES)

format-check: ## fail where clang-format would change something
	$(Q)clang-format-14 --dry-run -Werror $(C_FILES)

lint: ## cppcheck, quiet when clean
	$(Q)cppcheck --quiet --enable=warning,performance,portability --inline-suppr --std=c11 \
	    --error-exitcode=1 --suppressions-list=tools/cppcheck.txt -I. -j 2 $(foreach r,$(ROOMS),$(wildcard $r))

docs: $(BUILD)/bin/trireme ## rewrite the generated parts of docs/WIRE.md and docs/SWEEP.md
	$(Q)$(BUILD)/bin/trireme wire > docs/WIRE.md.tmp && mv docs/WIRE.md.tmp docs/WIRE.md
	$(Q){ sed '/^<!-- Written by/q' docs/SWEEP.md && $(BUILD)/bin/trireme keys && echo '<!-- End. -->'; } \
	    > docs/SWEEP.md.tmp && mv docs/SWEEP.md.tmp docs/SWEEP.md

# ---- install ------------------------------------------------------------------------------------
.PHONY: install clean
install: build ## into $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/trireme/configs/data \
	    $(DESTDIR)$(PREFIX)/share/trireme/slurm
	install -m 755 $(EXES) $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(BUILD)/lib/libtrireme.a $(DESTDIR)$(PREFIX)/lib/
	install -m 644 client/trireme.h $(DESTDIR)$(PREFIX)/include/
	$(BUILD)/bin/trireme completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/trireme
	install -m 644 configs/*.yaml $(DESTDIR)$(PREFIX)/share/trireme/configs/
	install -m 644 configs/data/* $(DESTDIR)$(PREFIX)/share/trireme/configs/data/
	install -m 755 slurm/*.sbatch $(DESTDIR)$(PREFIX)/share/trireme/slurm/
	sed -e 's,@PREFIX@,$(PREFIX),' -e "s,@VERSION@,$$(sed -n 's/.*TRIREME_VERSION "\(.*\)"/\1/p' core/version.h)," \
	    client/trireme.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/trireme.pc

clean: ## remove the build tree
	rm -rf $(BUILD)

-include $(shell [ -d $(BUILD) ] && find $(BUILD) -name '*.d')
