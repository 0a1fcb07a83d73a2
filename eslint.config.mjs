// Style, and the direction of imports: kvm ← shim ← backends ← cli. A folder may know only what stands before it.
import tseslint from 'typescript-eslint';

/** Files of `folder` must not import anything that matches `groups`. */
const wall = (files, message, groups) => ({
  files,
  rules: { '@typescript-eslint/no-restricted-imports': ['error', { patterns: [{ group: groups, message }] }] },
});

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', 'kvm/build/', '.cache/'] },
  { files: ['**/*.ts'], extends: [tseslint.configs.strict, tseslint.configs.stylistic] },
  {
    files: ['**/*.ts'],
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-extraneous-class': 'off',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-empty-function': 'off',
      eqeqeq: 'error',
      'max-lines': ['warn', { max: 400, skipBlankLines: true, skipComments: true }],
    },
  },
  wall(['kvm/**/*.ts'], 'kvm/ knows nothing above it', ['**/shim/**', '**/backends/**', '**/cli/**', '**/vm-images/**']),
  wall(['shim/**/*.ts'], 'shim/ knows only kvm/', ['**/backends/**', '**/cli/**', '**/vm-images/**']),
  wall(['docs/**/*.ts'], 'examples are written with xenshim/backend-kit alone', ['**/kvm/**', '**/shim/**', '**/backends/**', '**/cli/**', '**/vm-images/**']),
  wall(
    ['backends/**/*.ts'],
    'backends/ know shim/ring, shim/abi/io, shim/xenbus, shim/io and the narrow grant, event, memory and store interfaces',
    [
      '**/kvm/**',
      '**/cli/**',
      '**/vm-images/**',
      '**/shim/hypercall/**',
      '**/shim/domain/**',
      '**/shim/event-channel/!(backend-port)*',
      '**/shim/xenstore/!(client)*',
    ],
  ),
);
