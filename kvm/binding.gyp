{
  "target_defaults": {
    "cflags_cc!": ["-std=gnu++17"],
    "cflags_cc": ["-std=gnu++20", "-O2", "-Wall", "-Wextra", "-Wno-missing-field-initializers"],
    "include_dirs": ["."]
  },
  "targets": [
    {
      "target_name": "xenshim_native",
      "sources": [
        "addon/module.cc", "addon/memory.cc", "addon/events.cc", "addon/bridge.cc", "addon/uring.cc", "addon/image.cc",
        "addon/pager.cc", "pager/pager.cc", "pager/evict.cc",
        "addon/unix_socket.cc", "addon/stream_socket.cc",
        "addon/inline_file.cc", "addon/discarder.cc", "addon/vector_io.cc", "addon/gather.cc", "../shim/grant-table/quick_grants.cc"
      ],
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_CPP_EXCEPTIONS"],
      "cflags_cc!": ["-fno-exceptions", "-std=gnu++17"],
      "cflags_cc": ["-fexceptions", "-fvisibility=hidden"]
    },
    {
      # Preloaded into the user's QEMU: brings its own C++ runtime, shows nothing but ioctl().
      "target_name": "xenshim_plugin",
      "type": "shared_library",
      "product_prefix": "",
      "product_extension": "so",
      "sources": [
        "plugin/any/any.cc", "plugin/any/calls.cc", "plugin/any/clock.cc", "plugin/any/events.cc", "plugin/any/guard.cc",
        "plugin/any/msr_filter.cc", "plugin/any/patch.cc", "plugin/any/runstate.cc", "plugin/any/stubs.cc",
        "plugin/any/timers.cc", "plugin/any/watcher.cc",
        "plugin/attributes.cc", "plugin/channel.cc", "plugin/config_script.cc", "plugin/cpuid.cc",
        "plugin/hypercall.cc", "plugin/interpose.cc", "plugin/irqfd.cc", "plugin/paging.cc", "plugin/pci.cc",
        "plugin/platform_device.cc", "plugin/ram.cc", "plugin/requests.cc", "plugin/reset.cc", "plugin/reset_reason.cc",
        "plugin/unplug.cc", "plugin/vcpu.cc"
      ],
      "cflags_cc": ["-fvisibility=hidden", "-fno-exceptions", "-fPIC"],
      "ldflags": ["-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL"]
    }
  ]
}
