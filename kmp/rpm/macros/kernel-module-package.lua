-- SPDX-License-Identifier: MIT
-- The subpackages of %kernel_module_package: one for each flavour below %kmp_kernels, in alphabetical order.

local SUBPACKAGE = [[
%package -n @NAME@
Version: @VERSION@
Release: @RELEASE@
Summary: @SUMMARY@
Provides: @BASE@-kmp = @VERSION@
Provides: @BASE@-kmp = @DRIVER@
Provides: multiversion(kernel)
Provides: @NAME@-@KVER@
Conflicts: @NAME@-@KVER@
Enhances: kernel-@FLAVOUR@
Supplements: (kernel-@FLAVOUR@ and @BASE@)
Requires(post): kmod
Requires(postun): kmod
@PREAMBLE@
%description -n @NAME@
Kernel modules of the package @BASE@, built for Linux
@KERNEL@.
With symbol versions they load into other kernels of this flavour as well, as
long as those have the same symbols.
]]

-- SUSE's macro ends with such a package, too: it is never built, and gives %version back to what follows.
local LAST = [[
%package -n @BASE@-kmp-_dummy_
Version: @DRIVER@
Summary: none
%description -n @BASE@-kmp-_dummy_
]]

local STEPS = { "pre", "post", "preun", "postun", "posttrans" }

local function filled(text, words)
    return (text:gsub("@(%u+)@", words))
end

local function content(path)
    local file = assert(io.open(path))
    local text = file:read("a")
    file:close()
    return text
end

-- What other scripts have as well, without its head.
local function shared(name)
    return (content(rpm.expand("%{kmp_macros}/../../scripts/") .. name):gsub("^.-\n\n", "", 1))
end

-- The flavours that are there, without those that are not wanted: with -x the arguments are those, else the others.
local function chosen(kernels, named, exclude)
    local wanted, found = {}, {}
    for _, flavour in ipairs(named) do
        wanted[flavour] = true
    end
    for _, flavour in ipairs(posix.dir(kernels)) do
        if flavour:sub(1, 1) ~= "." and (#named == 0 or (wanted[flavour] ~= nil) ~= exclude) then
            table.insert(found, flavour)
        end
    end
    table.sort(found)
    return found
end

local function subpackage(opt, words, folder)
    print(filled(SUBPACKAGE, words))
    local needs = opt.b and "KMP_NEEDS_MKINITRD=1; export KMP_NEEDS_MKINITRD\n" or ""
    local text = shared("initrd.sh") .. shared("disks.sh") .. filled(content(folder .. "/scriptlet.sh"), words)
    for _, step in ipairs(STEPS) do
        print("%" .. step .. " -n " .. words.NAME .. "\n" .. needs .. text .. "kmp_" .. step .. ' "$@"\n')
    end
    print("%files -n " .. words.NAME .. "\n" .. words.FILES .. "\n")
end

return function(opt, arg)
    assert(not opt.t and not opt.c, "%kernel_module_package: -t and -c are for SUSE's own hosts")
    local kernels, folder = rpm.expand("%{kmp_kernels}"), rpm.expand("%{kmp_macros}")
    local flavours = chosen(kernels, arg, opt.x ~= nil)
    assert(#flavours > 0, "%kernel_module_package: no kernel is left in " .. kernels)
    rpm.define("flavors_to_build " .. table.concat(flavours, " "))
    local base, driver = opt.n or rpm.expand("%{name}"), opt.v or rpm.expand("%{version}")
    for _, flavour in ipairs(flavours) do
        local header = content(kernels .. "/" .. flavour .. "/include/generated/utsrelease.h")
        local kernel = assert(header:match('UTS_RELEASE "(.-)"'))
        local kver = "k" .. kernel:gsub("%-" .. flavour:gsub("%p", "%%%0") .. "$", ""):gsub("-", "_")
        subpackage(opt, {
            NAME = base .. "-kmp-" .. flavour,
            BASE = base,
            DRIVER = driver,
            VERSION = driver .. "_" .. kver,
            RELEASE = opt.r or rpm.expand("%{release}"),
            SUMMARY = rpm.expand("%{summary}"),
            FLAVOUR = flavour,
            KVER = kver,
            KERNEL = kernel,
            SIGNED = rpm.expand("%{?modules_are_signed}"),
            PREAMBLE = opt.p and rpm.expand(content(opt.p)) or "",
            FILES = opt.f and rpm.expand(content(opt.f)) or rpm.expand("%{kernel_module_directory}/") .. kernel,
        }, folder)
    end
    print(filled(LAST, { BASE = base, DRIVER = driver }))
end
