# SPDX-License-Identifier: GPL-2.0-only
# Included by Kbuild files of modules that use compat.h: ebb_compat says where this folder is, and
# ebb_objects which objects need to know. What was found is in $(obj)/found.h, which they include.

ebb_features := $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard $(ebb_compat)/probes/*/*.c)))))

quiet_cmd_ebb_probe = PROBE   $(basename $(notdir $@))
      cmd_ebb_probe = $(CONFIG_SHELL) $(ebb_compat)/probe.sh \
	$(ebb_compat)/probes/$(basename $(notdir $@)) $@ $(CC) $(NOSTDINC_FLAGS) $(LINUXINCLUDE) \
	-include $(srctree)/include/linux/compiler_types.h $(KBUILD_CPPFLAGS) $(KBUILD_CFLAGS) \
	$(KBUILD_CFLAGS_MODULE) -DKBUILD_MODNAME='"probe"' -DKBUILD_BASENAME='"probe"'

ebb_found := $(addprefix $(obj)/found/,$(addsuffix .h,$(ebb_features)))

$(ebb_found): $(obj)/found/%.h: $(ebb_compat)/probe.sh FORCE
	$(call if_changed,ebb_probe)

$(foreach f,$(ebb_features),$(eval $(obj)/found/$(f).h: $(wildcard $(ebb_compat)/probes/$(f)/*.c)))

quiet_cmd_ebb_found = FOUND   $@
      cmd_ebb_found = cat $(ebb_found) >$@

$(obj)/found.h: $(ebb_found) FORCE
	$(call if_changed,ebb_found)

targets += found.h $(addprefix found/,$(addsuffix .h,$(ebb_features)))
clean-files += found found.h

ccflags-y += -include $(obj)/found.h
$(addprefix $(obj)/,$(ebb_objects)): $(obj)/found.h
